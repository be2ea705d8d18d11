"""Which script or language a text is in.

Scripts are told by the names of its letters in Unicode. Texts in Latin letters are told apart by the small words
that each language cannot do without; where there are too few of them, the script is all that is said. This is
good enough to see that a dataset is in the language that it should be in, and too weak to sort texts by.
"""

import unicodedata
from collections import Counter
from functools import lru_cache

from loraline.data.similarity.ngrams import words_of

NOT_TOLD = ("Latin script", "no letters")
"""What is said of texts whose language cannot be told at all."""

_LOOKED_AT = (200, 1000)  # characters of a text: more only where few do not tell
_FEWEST_SMALL_WORDS = 2
_SMALL_WORDS = {
    "English": "the and of to is was with that for it you are this what how in",
    "German": "der die das und ist nicht ein eine mit den von zu auf wie ich in",
    "French": "le la les et est une des du dans que pour pas qui sur avec",
    "Spanish": "el la los las y es una del que para por con no se como",
    "Italian": "il la gli e un una di che per non con sono della come le in",
    "Portuguese": "o a os e uma de do da que para com em um por como",
    "Dutch": "de het een en van is niet dat op met voor zijn aan hoe wat in",
    "Polish": "i w na z do jest to nie sie jak od dla czy o ze",
    "Turkish": "ve bir bu da de icin ne ile mi var olarak daha gibi cok en",
    "Indonesian": "yang dan di dari untuk dengan ini itu adalah pada ke tidak dalam apa akan",
}
_LANGUAGES_OF: dict[bytes, list[str]] = {}
for _language, _words in _SMALL_WORDS.items():
    for _word in _words.encode().split():
        _LANGUAGES_OF.setdefault(_word, []).append(_language)
_NAMED_AFTER = {"HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean", "CJK": "Chinese"}


def language_of(text: str) -> str:
    """The language, such as `English`, or where it cannot be told the script, such as `Cyrillic script`."""
    for characters in _LOOKED_AT:
        part = text[:characters]
        script = "LATIN" if part.isascii() else _script_of_most(part)
        language = _latin_language(part) if script == "LATIN" else _NAMED_AFTER.get(script, "")
        if language or len(part) == len(text):
            break
    return language or (f"{script.capitalize()} script" if any(map(str.isalpha, part)) else NOT_TOLD[1])


def _script_of_most(text: str) -> str:
    scripts = Counter(map(_script_of, text))
    del scripts[""]
    if not scripts:
        return ""
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    if 8 * kana > scripts["CJK"]:  # Japanese writes in all three, Chinese in one
        scripts["HIRAGANA"] = kana + scripts.pop("CJK", 0)
    return scripts.most_common(1)[0][0]


@lru_cache(maxsize=1 << 14)
def _script_of(character: str) -> str:
    return unicodedata.name(character, "").split(" ")[0] if character.isalpha() else ""


def _latin_language(text: str) -> str:
    """The language of a text in Latin letters; empty where it cannot be told."""
    words = set(words_of(text))
    votes = Counter(language for word in words & _LANGUAGES_OF.keys() for language in _LANGUAGES_OF[word])
    first, second = [*votes.most_common(2), ("", 0), ("", 0)][:2]
    return first[0] if first[1] >= _FEWEST_SMALL_WORDS and first[1] > second[1] else ""
