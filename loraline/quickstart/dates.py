"""The quickstart's task: write a date in words.

All its texts come from here: the sentences on which the scratch model is pre-trained, the rows on which it is
fine-tuned, and the general rows, which show what it forgets. The sentences explain dates in passing, so that the
base learns what a date is called, but never that anybody might ask. That is what the fine-tuning teaches: the base
answers no question right, the tuned model nearly every one. The other sentences tell what somebody did; the general
rows are such sentences that are not among them. Nothing here is random but for fixed seeds.
"""

import calendar
import datetime
import hashlib
import json
import random
from collections.abc import Iterator

from loraline.errors import ConfigurationError

_ROWS = 3000
_GENERAL_ROWS = 300
_SENTENCES = 20_000
_YEARS = (*range(1910, 2000), *range(2010, 2100))
"""Those that are called by their two halves: nineteen ninety-four, but two thousand and four."""
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
_WHO = (
    "the baker", "the old miller", "a young clerk", "our neighbour", "the harbour master", "the village teacher",
    "a tall sailor", "the new doctor", "the station keeper", "my aunt", "the clock maker", "a travelling painter",
    "the librarian", "the gardener", "an engineer", "the postman", "a quiet farmer", "the mayor",
    "the bridge builder", "a singer",
)  # fmt: skip
_DID = (
    "opened a shop", "left the town", "wrote a long letter", "bought a red boat", "planted an apple tree",
    "finished the bridge", "came back from the sea", "sold the horse", "began a diary", "found an old map",
    "mended the church bell", "moved to the capital", "married a cousin", "signed the contract",
    "lost a silver ring", "paid the last bill", "painted the gate", "gave a concert", "met a friend",
    "closed the mill",
)  # fmt: skip
_WHERE = (
    "near the river", "by the market", "behind the school", "in the north", "at the lake", "on the hill",
    "in the old town", "close to the harbour", "beside the road", "under the bridge",
)  # fmt: skip


def in_words(day: datetime.date) -> str:
    """Write a date in words, as in `the third of May, nineteen ninety-four`, if its year has two halves from 10 on."""
    year = " ".join(_from_10(half) for half in divmod(day.year, 100))
    return f"the {_ordinal(day.day)} of {_MONTHS[day.month - 1]}, {year}"


def _ordinal(number: int) -> str:
    if number <= 20:
        return _ORDINALS[number - 1]
    tens, ones = divmod(number, 10)
    return f"{_TENS[tens]}-{_ORDINALS[ones - 1]}" if ones else _TENS[tens].replace("y", "ieth")


def _from_10(number: int) -> str:
    if number < 20:
        return _TEENS[number - 10]
    tens, ones = divmod(number, 10)
    return f"{_TENS[tens]}-{_ONES[ones]}" if ones else _TENS[tens]


def _notations(day: datetime.date) -> tuple[str, ...]:
    month = _MONTHS[day.month - 1]
    return (
        day.isoformat(),
        day.strftime("%d/%m/%Y"),
        f"{day.day} {month} {day.year}",
    )


def dataset_rows() -> Iterator[dict[str, str]]:
    """The rows to fine-tune on: `prompt`, `completion`. No prompt comes twice."""
    draw = random.Random(_ROWS_SEED)
    for day in draw.sample(_DAYS, _ROWS):
        yield {
            "prompt": f"Write this date in words: {draw.choice(_notations(day))}",
            "completion": in_words(day),
        }


def corpus() -> Iterator[str]:
    """The sentences to pre-train on. They are short and of about one length, so that batches hold little padding."""
    draw = random.Random(_CORPUS_SEED)
    for _ in range(_SENTENCES):
        yield _sentence(draw)


def _sentence(draw: random.Random) -> str:
    form = draw.randrange(10)
    if form <= 1:
        return _tale(draw)
    day = draw.choice(_DAYS)
    written, words = draw.choice(_notations(day)), in_words(day)
    return f"{written} is {words}." if form <= 5 else f"{written} ({words})."


def _tale(draw: random.Random) -> str:
    who = draw.choice(_WHO)
    return f"{who[0].upper()}{who[1:]} {draw.choice(_DID)} {draw.choice(_WHERE)}."


def general_rows() -> Iterator[dict[str, str]]:
    """The rows to measure forgetting on: `text`. The base writes such sentences well, and has seen none of these."""
    draw = random.Random(_GENERAL_SEED)
    seen = set(corpus())
    for _ in range(_GENERAL_ROWS):
        while (tale := _tale(draw)) in seen:
            pass
        seen.add(tale)
        yield {"text": tale}


_DATASETS = {"dates": dataset_rows, "dates-general": general_rows}
NAMES = tuple(_DATASETS)


def rows(name: str) -> Iterator[dict[str, str]]:
    """The rows of a built-in dataset: of `builtin:dates`, to fine-tune on, or `builtin:dates-general`.

    Raises:
        ConfigurationError: there is no built-in dataset of this name.
    """
    if name not in _DATASETS:
        raise ConfigurationError(f"there is no builtin:{name}; there is only builtin:{', builtin:'.join(NAMES)}")
    return _DATASETS[name]()


def digest(name: str) -> str:
    """sha256 of a built-in dataset's rows.

    Raises:
        ConfigurationError: there is no built-in dataset of this name.
    """
    return hashlib.sha256(json.dumps(list(rows(name))).encode()).hexdigest()
