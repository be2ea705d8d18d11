"""Metrics of an answer against its reference: exact match, token F1, ROUGE-L, JSON F1. Each is between 0 and 1.

Token F1 is SQuAD's (arXiv 1606.05250, section 6.1) with MLQA's extension to other scripts (arXiv 1910.07475,
appendix D): Unicode punctuation is dropped as ASCII punctuation is, and scripts without spaces are split into
characters. On English text it equals SQuAD's. Exact match is stricter than SQuAD's, for which "-1.5" and "15" are
equal: only white space at both ends is ignored. ROUGE-L (Lin 2004, section 3) is that of the library rouge-score, with
a tokenizer that keeps letters of all scripts (its own drops everything but a-z and 0-9). It is computed here because
the library takes seconds to import, in each evaluation. JSON F1 is that of slot filling: of the fields, each with its
value.
"""

import json
import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Thai and Lao, Burmese, Khmer, Japanese, Chinese: scripts without spaces between words.
_WITHOUT_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SQUAD_TOKEN = re.compile(rf"[{_WITHOUT_SPACES}]|[^\s{_WITHOUT_SPACES}]+")
_FENCES = re.compile(r"^\s*```(?:json)?|```\s*$")
_ROUGE_TOKEN = re.compile(rf"[{_WITHOUT_SPACES}]|[^\W_{_WITHOUT_SPACES}]+")


def exact_match(answer: str, reference: str) -> float:
    """1 if both are equal after stripping white space at both ends, else 0."""
    return float(answer.strip() == reference.strip())


def token_f1(answer: str, reference: str) -> float:
    """F1 over normalized tokens. Two texts without tokens are equal, as in SQuAD 2."""
    answered, expected = squad_tokens(answer), squad_tokens(reference)
    if not answered or not expected:
        return float(answered == expected)
    shared = sum((Counter(answered) & Counter(expected)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(answered), shared / len(expected)
    return 2 * precision * recall / (precision + recall)


def rouge_l(answer: str, reference: str) -> float:
    """F-measure over the longest common subsequence of tokens."""
    answered, expected = rouge_tokens(answer), rouge_tokens(reference)
    shared = common_subsequence_length(answered, expected)
    if not shared:
        return 0.0
    precision, recall = shared / len(answered), shared / len(expected)
    return 2 * precision * recall / (precision + recall)


def json_f1(answer: str, reference: str) -> float | None:
    """F1 over the fields of two JSON texts, each a path with its value, in any order; None without a JSON reference.

    A field counts where path and value are equal: 2 is 2.0, and not "2". An answer that is not JSON as a whole (but for
    Markdown's fences around it) has no fields. A reference is JSON if it is an object or a list.
    """
    expected = _parsed(reference)
    if not isinstance(expected, dict | list):
        return None
    given = _parsed(answer)
    if type(given) is not type(expected):
        return 0.0
    answered, wanted = Counter(_fields(given)), Counter(_fields(expected))
    return 2 * sum((answered & wanted).values()) / (answered.total() + wanted.total())


def _parsed(text: str) -> object:
    """A JSON text's value; None where it is not JSON."""
    try:
        return json.loads(_FENCES.sub("", text))
    except (ValueError, RecursionError):
        return None


def _fields(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """The path and value of each leaf. What is empty is a leaf, and so is the whole."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _fields(item, f"{path}/{key}")
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _fields(item, f"{path}/{index}")
    else:
        yield path, json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def squad_tokens(text: str) -> list[str]:
    """Lower-case, remove punctuation and English articles, split at white space."""
    kept = "".join(character for character in text.lower() if not _is_punctuation(character))
    return _SQUAD_TOKEN.findall(_ARTICLES.sub(" ", kept))


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def rouge_tokens(text: str) -> list[str]:
    """Split into lower-case runs of letters and digits, of any script."""
    return _ROUGE_TOKEN.findall(text.lower())


def common_subsequence_length(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence, by Hyyro's bit-parallel recurrence (2004, figure 2).

    A column of the dynamic-programming table is one integer, whose zero bits are the rows at which the length grows,
    so that a token of `second` costs a few operations on integers of `len(first)` bits.
    """
    rows_of: dict[str, int] = {}
    for row, token in enumerate(first):
        rows_of[token] = rows_of.get(token, 0) | 1 << row
    every_row = (1 << len(first)) - 1
    column = every_row
    for token in second:
        matches = column & rows_of.get(token, 0)
        column = (column + matches | column - matches) & every_row
    return len(first) - column.bit_count()


def mean(values: list[float | None]) -> float | None:
    """Mean of the values that are not None, exact in any order; None if there are none."""
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None
