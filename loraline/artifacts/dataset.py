"""What prepare_dataset hands on: the rows, and what was read, kept and dropped."""

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from loraline.artifacts.base import Report
from loraline.artifacts.dataset_files import Message

Part = Literal["prompt", "completion"]


class RowProblem(Report):
    """What is wrong with a row."""

    file: str
    line: int
    column: str
    """Column, or the place within one such as `messages[2].role`. Empty: the row as a whole."""
    kind: str
    """A short name for problems of the same sort."""
    reason: str
    """What is wrong, with the value."""
    fatal: bool = False
    """The rest of the file could not be read, so that dropping the row is no remedy."""


class NearDuplicate(Report):
    """A row that nearly repeats another."""

    origin: str
    other: str
    """Where the row is that it nearly repeats."""
    similarity: float
    """Jaccard similarity of their word triples, 0 to 1."""
    excerpt: str


class NearDuplicates(Report):
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


class ContaminatedRow(Report):
    """A row to evaluate on that is copied in a row to train on."""

    id: str
    origin: str
    train_origin: str
    overlap: float
    """Share of its words found there, 0 to 1: of the question, the answer or both, whichever is the largest."""
    excerpt: str


class Contamination(Report):
    """Rows to evaluate on that are copied in the rows to train on."""

    n: int
    """Words of the runs that were compared."""
    eval_examples: int
    contaminated: int
    fraction: float
    ids: list[str]
    """Ids of all of them."""
    examples: list[ContaminatedRow]


class PersonalDatum(Report):
    """A place with personal data, masked."""

    origin: str
    kind: str
    excerpt: str


class PersonalData(Report):
    """E-mail addresses, phone numbers, keys and the like."""

    model_config = ConfigDict(frozen=False)

    action: str
    rows: int = 0
    """Rows that hold any."""
    dropped: int = 0
    found: dict[str, int] = Field(default={})
    """How often, by kind."""
    examples: list[PersonalDatum] = Field(default=[])


class PolicyMatch(Report):
    """A row that holds what the policy names."""

    origin: str
    category: str
    excerpt: str


class PolicyFindings(Report):
    """What the safety policy found in the rows."""

    model_config = ConfigDict(frozen=False)

    name: str
    rows: int = 0
    """Rows in which it found anything."""
    dropped: int = 0
    found: dict[str, int] = Field(default={})
    """Rows by category."""
    examples: list[PolicyMatch] = Field(default=[])


class TruncatedRow(Report):
    """A row to train on that is longer than training reads."""

    origin: str
    tokens: int
    """Its length as training encodes it."""
    cut: int
    """Tokens at its end that are not read."""
    answerless: bool
    """Nothing that carries loss is left of it."""


class Truncation(Report):
    """What `training.max_length` cuts off the rows to train on."""

    model_config = ConfigDict(frozen=False)

    max_length: int
    rows: int = 0
    tokens_cut: int = 0
    answerless: int = 0
    """Rows of which no answer is left: nothing is learned from them."""
    examples: list[TruncatedRow] = Field(default=[])
    """Rows without an answer first, then those that lose most."""


class Answers(Report):
    """Answers that teach nothing, or not all that they hold."""

    empty: int
    """Rows with an empty answer. They are bad, and counted there."""
    empty_origins: list[str]
    """Where the first of them are."""
    truncated: Truncation | None
    """None where the length that training reads is not known."""


class General(Report):
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


class Lengths(Report):
    """Lengths of one part of the rows of one side, in tokens."""

    rows: int
    total: int
    min: int
    median: float
    mean: float
    p95: int
    max: int
    histogram: list[int]
    """Rows per bin of `LengthReport.edges`."""


class LengthReport(Report):
    """Lengths of prompts and completions, in tokens of the model's tokenizer, chat template not counted."""

    edges: dict[Part, list[int]]
    """Lower edges of the histogram's bins; the last bin has no upper edge."""
    train: dict[Part, Lengths]
    eval: dict[Part, Lengths]


class RowCounts(Report):
    """What became of the rows: `read` is the sum of the others."""

    model_config = ConfigDict(frozen=False)

    read: int = 0
    train: int = 0
    eval: int = 0
    bad: int = 0
    duplicates: int = 0
    overlap: int = 0
    """Rows not trained on because eval holds their prompt."""
    near_duplicates: int = 0
    """Rows dropped because they nearly repeat another, where data.near_duplicates says so."""
    personal_data: int = 0
    """Rows dropped because they hold personal data, where data.personal_data says so."""
    policy: int = 0
    """Rows that the safety policy drops."""


class Duplicate(Report):
    """A row that was dropped because it, or its prompt, repeats another."""

    origin: str
    first: str
    """Where the row is that it repeats."""


class Sample(Report):
    """A row to look at; long contents are cut."""

    id: str
    origin: str
    messages: list[Message] | None
    text: str | None


class SourceReport(Report):
    """One source as it was read."""

    name: str
    bytes: int | None
    """Bytes of its files as they lie; None where it has no files of its own."""
    shape: str
    columns: dict[str, str]
    """Which column played which part."""


class DatasetReport(Report):
    """What was read, kept and dropped."""

    FILE: ClassVar[str] = "report.json"

    fingerprint: str
    """Hash of the rows of train and eval as sets: of their content alone."""
    sources: list[SourceReport]
    """The source, and after it the eval source and the general source where there are any."""
    rows: RowCounts
    bad_fraction: float
    bad_kinds: dict[str, int]
    """Problems by kind. A bad row may have several."""
    bad_rows: list[RowProblem]
    """The first problems; all are in bad_rows.jsonl."""
    duplicates: list[Duplicate]
    """The first rows that repeat another."""
    overlap: list[Duplicate]
    """The first rows that are not trained on because eval holds their prompt."""
    lengths: LengthReport
    near_duplicates: NearDuplicates
    contamination: Contamination
    personal_data: PersonalData
    answers: Answers
    policy: PolicyFindings | None
    """None where there is no policy."""
    labels: dict[str, dict[str, int]] | None
    """Rows of train and eval by answer, where answers are few and come again and again; else None."""
    general: General | None
    """None where data.general_source is empty."""
    samples: dict[str, list[Sample]]
    """A few rows of train and of eval."""

    def headline(self) -> str:
        """The report in a line."""
        rows = self.rows
        dropped = {
            "bad": rows.bad,
            "duplicate": rows.duplicates,
            "overlapping": rows.overlap,
            "nearly duplicate": rows.near_duplicates,
            "with personal data": rows.personal_data,
            "against the policy": rows.policy,
        }
        shown = ", ".join(f"{number:,} {what}" for what, number in dropped.items() if number)
        return f"{rows.train:,} rows to train on, {rows.eval:,} to evaluate on" + (
            f"; dropped: {shown}" if shown else ""
        )
