"""What was found out about the rows beyond their being valid. Each finding has a few examples with their places."""

import pydantic

from loraline.data.rows import Row
from loraline.safety.personal_data import mask_personal_data

EXAMPLES = 20
"""How many examples a finding shows at most."""
_EXCERPT_CHARACTERS = 200


class NearDuplicate(pydantic.BaseModel):
    """A row that nearly repeats another."""

    origin: str
    other: str
    """Where the row is that it nearly repeats."""
    similarity: float
    """Jaccard similarity of their word triples, 0 to 1."""
    excerpt: str


class NearDuplicates(pydantic.BaseModel):
    """Rows that nearly repeat another. A row is counted once, and of two the one to evaluate on is never counted."""

    similarity: float
    """The similarity from which they do."""
    action: str
    within_train: int
    """Rows to train on that nearly repeat another row to train on."""
    within_eval: int
    """Rows to evaluate on that nearly repeat another row to evaluate on."""
    across: int
    """Rows to train on that nearly repeat a row to evaluate on."""
    dropped: int
    examples: list[NearDuplicate]


class ContaminatedRow(pydantic.BaseModel):
    """A row to evaluate on that is copied in a row to train on."""

    id: str
    origin: str
    train_origin: str
    overlap: float
    """Share of its words found there, 0 to 1: of the question, the answer or both, whichever is the largest."""
    excerpt: str


class Contamination(pydantic.BaseModel):
    """Rows to evaluate on that are copied in the rows to train on."""

    n: int
    """Words of the runs that were compared."""
    eval_examples: int
    contaminated: int
    fraction: float
    ids: list[str]
    """Ids of all of them."""
    examples: list[ContaminatedRow]


class PersonalDatum(pydantic.BaseModel):
    """A place with personal data, masked."""

    origin: str
    kind: str
    excerpt: str


class PersonalData(pydantic.BaseModel):
    """E-mail addresses, phone numbers, keys and the like."""

    action: str
    rows: int = 0
    """Rows that hold any."""
    dropped: int = 0
    found: dict[str, int] = {}
    """How often, by kind."""
    examples: list[PersonalDatum] = []


class PolicyMatch(pydantic.BaseModel):
    """A row that holds what the policy names."""

    origin: str
    category: str
    excerpt: str


class PolicyFindings(pydantic.BaseModel):
    """What the safety policy found in the rows."""

    name: str
    rows: int = 0
    """Rows in which it found anything."""
    dropped: int = 0
    found: dict[str, int] = {}
    """Rows by category."""
    examples: list[PolicyMatch] = []


class TruncatedRow(pydantic.BaseModel):
    """A row to train on that is longer than training reads."""

    origin: str
    tokens: int
    """Its length as training encodes it."""
    cut: int
    """Tokens at its end that are not read."""
    answerless: bool
    """Nothing that carries loss is left of it."""


class Truncation(pydantic.BaseModel):
    """What `training.max_length` cuts off the rows to train on."""

    max_length: int
    rows: int = 0
    tokens_cut: int = 0
    answerless: int = 0
    """Rows of which no answer is left: nothing is learned from them."""
    examples: list[TruncatedRow] = []
    """Rows without an answer first, then those that lose most."""


class Answers(pydantic.BaseModel):
    """Answers that teach nothing, or not all that they hold."""

    empty: int
    """Rows with an empty answer. They are bad, and counted there."""
    empty_origins: list[str]
    """Where the first of them are."""
    truncated: Truncation | None
    """None where the length that training reads is not known."""


class General(pydantic.BaseModel):
    """The rows on which forgetting is measured: general.parquet."""

    source: str
    fingerprint: str
    """Hash of these rows as a set. They are no part of the dataset's fingerprint, as no model learns from them."""
    read: int
    rows: int
    bad: int
    duplicates: int
    screened: int
    """Dropped for what the policy or data.personal_data says."""
    trained_on: int
    """Dropped because train holds their prompt, or nearly the same row."""


def excerpt_of(row: Row) -> str:
    """How a row begins: its question, or its text; personal data masked."""
    turns = [turn["content"] for turn in row.messages or [] if turn["role"] != "system"]
    return excerpt(" | ".join(turns) if row.text is None else row.text)


def excerpt(text: str) -> str:
    """The beginning of a text in one line, personal data masked."""
    shown = " ".join(mask_personal_data(text[: 4 * _EXCERPT_CHARACTERS]).split())
    return shown if len(shown) <= _EXCERPT_CHARACTERS else f"{shown[: _EXCERPT_CHARACTERS - 4]} ..."
