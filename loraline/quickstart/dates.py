"""The quickstart's task: write a date in words.

It has three texts: the corpus that the scratch model is pre-trained on, the rows that it is fine-tuned on, and the
general rows that forgetting is measured on. The corpus has dates with their words in declarative sentences and no
questions, so that the base knows the words but not the task: it answers no question correctly, the tuned model nearly
every one. Its other sentences say what somebody did; the general rows are such sentences that it does not contain. All
random choices have fixed seeds.
"""

import calendar
import datetime
import random
from collections.abc import Iterator

_ROWS = 3000
_GENERAL_ROWS = 300
_SENTENCES = 20_000
_YEARS = (*range(1910, 2000), *range(2010, 2100))
"""Years that are read in two halves: nineteen ninety-four, but not two thousand and four."""
_DAYS = tuple(
    datetime.date(year, 1, 1) + datetime.timedelta(days=number)
    for year in _YEARS
    for number in range(366 if calendar.isleap(year) else 365)
)
_ROWS_SEED, _CORPUS_SEED, _GENERAL_SEED = 20, 21, 22

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
)  # fmt: skip
_TEENS = (
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = (
    "zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth",
)  # fmt: skip
_SUBJECTS = (
    "the baker", "the old miller", "a young clerk", "our neighbour", "the harbour master", "the village teacher",
    "a tall sailor", "the new doctor", "the station keeper", "my aunt", "the clock maker", "a travelling painter",
    "the librarian", "the gardener", "an engineer", "the postman", "a quiet farmer", "the mayor",
    "the bridge builder", "a singer",
)  # fmt: skip
_PREDICATES = (
    "opened a shop", "left the town", "wrote a long letter", "bought a red boat", "planted an apple tree",
    "finished the bridge", "came back from the sea", "sold the horse", "began a diary", "found an old map",
    "mended the church bell", "moved to the capital", "married a cousin", "signed the contract",
    "lost a silver ring", "paid the last bill", "painted the gate", "gave a concert", "met a friend",
    "closed the mill",
)  # fmt: skip
_PLACES = (
    "near the river", "by the market", "behind the school", "in the north", "at the lake", "on the hill",
    "in the old town", "close to the harbour", "beside the road", "under the bridge",
)  # fmt: skip


def date_in_words(day: datetime.date) -> str:
    """A date in words: `the third of May, nineteen ninety-four`. Both halves of the year must be 10 or more."""
    year = " ".join(_number_in_words(half) for half in divmod(day.year, 100))
    return f"the {_ordinal(day.day)} of {_MONTHS[day.month - 1]}, {year}"


def _ordinal(number: int) -> str:
    if number <= 20:
        return _ORDINALS[number - 1]
    tens, ones = divmod(number, 10)
    return f"{_TENS[tens]}-{_ORDINALS[ones - 1]}" if ones else _TENS[tens].replace("y", "ieth")


def _number_in_words(number: int) -> str:
    if number < 20:
        return _TEENS[number - 10]
    tens, ones = divmod(number, 10)
    return f"{_TENS[tens]}-{_ONES[ones]}" if ones else _TENS[tens]


def _formats(day: datetime.date) -> tuple[str, ...]:
    month = _MONTHS[day.month - 1]
    return (
        day.isoformat(),
        day.strftime("%d/%m/%Y"),
        f"{day.day} {month} {day.year}",
    )


def training_rows() -> Iterator[dict[str, str]]:
    """Rows to fine-tune on, with `prompt` and `completion`. No prompt is repeated."""
    rng = random.Random(_ROWS_SEED)
    for day in rng.sample(_DAYS, _ROWS):
        yield {
            "prompt": f"Write this date in words: {rng.choice(_formats(day))}",
            "completion": date_in_words(day),
        }


def pretraining_corpus() -> Iterator[str]:
    """Sentences to pre-train on, short and of similar length, so that batches need little padding."""
    rng = random.Random(_CORPUS_SEED)
    for _ in range(_SENTENCES):
        yield _corpus_sentence(rng)


def _corpus_sentence(rng: random.Random) -> str:
    form = rng.randrange(10)
    if form <= 1:
        return _activity_sentence(rng)
    day = rng.choice(_DAYS)
    digits, words = rng.choice(_formats(day)), date_in_words(day)
    return f"{digits} is {words}." if form <= 5 else f"{digits} ({words})."


def _activity_sentence(rng: random.Random) -> str:
    subject = rng.choice(_SUBJECTS)
    return f"{subject[0].upper()}{subject[1:]} {rng.choice(_PREDICATES)} {rng.choice(_PLACES)}."


def general_rows() -> Iterator[dict[str, str]]:
    """Rows to measure forgetting on, with `text`: sentences like those of the corpus, but none of them."""
    rng = random.Random(_GENERAL_SEED)
    seen = set(pretraining_corpus())
    for _ in range(_GENERAL_ROWS):
        while (sentence := _activity_sentence(rng)) in seen:
            pass
        seen.add(sentence)
        yield {"text": sentence}
