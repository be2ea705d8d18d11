"""The report of prepare_dataset: what was read, kept and dropped."""

from typing import ClassVar, Literal

from loraline.artifacts.base import Report, StepIdentity
from loraline.artifacts.dataset_files import Message, Split

TextPart = Literal["prompt", "completion"]


class RowProblem(Report):
    """One problem of a row that is not valid."""

    file: str
    line: int
    column: str = ""
    """Column, or the place in it such as `messages[2].role`. Empty: the row as a whole."""
    kind: str
    """A short name for problems of the same sort."""
    reason: str
    """What is wrong, with the value."""
    fatal: bool = False
    """The rest of the file cannot be read, so that dropping the row does not help."""

    def __str__(self) -> str:
        column = f" column {self.column!r}:" if self.column else ""
        return f"{self.file}:{self.line}:{column} {self.reason}"


class Duplicate(Report):
    """A row that was dropped because it, or its prompt, repeats another."""

    origin: str
    """Where the row was read: `file:line`."""
    other_origin: str
    """Where the row was read that it repeats."""


class NearDuplicate(Duplicate):
    """A row that nearly repeats another."""

    similarity: float
    """Jaccard similarity of their word trigrams, 0 to 1."""
    excerpt: str


class NearDuplicates(Report):
    """Rows that nearly repeat another. Of two such rows one is counted: the train row, if one is in eval."""

    similarity: float
    """Jaccard similarity from which two rows are near-duplicates."""
    action: str
    within_train: int
    """Train rows that nearly repeat another train row."""
    within_eval: int
    """Eval rows that nearly repeat another eval row."""
    across: int
    """Train rows that nearly repeat an eval row."""
    dropped: int
    examples: list[NearDuplicate]


class ContaminatedRow(Report):
    """An eval row that is copied in a train row."""

    id: str
    origin: str
    train_origin: str
    word_overlap: float
    """Fraction of its words found in the train row, 0 to 1: the largest of question, answer and both together."""
    excerpt: str


class Contamination(Report):
    """Eval rows that are copied in train rows."""

    n: int
    """Words of the n-grams that were compared."""
    eval_examples: int
    contaminated: int
    fraction: float
    ids: list[str]
    """Ids of all contaminated rows."""
    examples: list[ContaminatedRow]


class ScreeningExample(Report):
    """A place in a row with personal data, or with a category of the policy; personal data masked."""

    origin: str
    category: str
    """The kind of personal data, or the policy's category."""
    excerpt: str


class ScreeningFindings(Report):
    """What a screen found in the rows."""

    rows: int
    """Rows with any finding."""
    dropped: int
    """Rows that were dropped for it."""
    counts: dict[str, int]
    """By category: occurrences of personal data, or rows that match the policy."""
    examples: list[ScreeningExample]


class PersonalDataFindings(ScreeningFindings):
    """E-mail addresses, phone numbers, keys and the like."""

    action: str
    """`data.personal_data`: report, mask or drop."""


class PolicyFindings(ScreeningFindings):
    """What the safety policy found."""

    name: str
    """The policy's name."""


class TruncatedRow(Report):
    """A train row that is longer than training.max_length."""

    origin: str
    tokens: int
    """Its length as training encodes it."""
    tokens_cut: int
    """Tokens at its end that are cut off."""
    without_answer: bool
    """No token that carries loss is left."""


class Truncation(Report):
    """What training.max_length cuts off the train rows."""

    max_length: int
    rows: int
    tokens_cut: int
    rows_without_answer: int
    """Rows of which no token that carries loss is left."""
    examples: list[TruncatedRow]
    """Rows without an answer first, then those that lose most tokens."""


class LostText(Report):
    """A row's text that is not in its tokens."""

    origin: str
    part: TextPart
    text: str
    tokens: str
    """What the tokens say, decoded: those of the whole row, or for a completion those with loss."""


class ContentReport(Report):
    """Whether the texts of rows are in the tokens that training encodes them as."""

    MOST_LOST: ClassVar[float] = 0.1

    rows: int
    """Rows that were encoded and decoded, chosen whatever their order."""
    prompts: int
    """Rows of these that have a prompt; plain text has none."""
    without_prompt: int
    """Rows whose prompt is not in their tokens, in the most part."""
    without_answer: int
    """Rows whose last answer is not in the tokens with loss, in the most part."""
    examples: list[LostText]

    @property
    def fault(self) -> str:
        """What is wrong, if more than a tenth of the rows lost a text; else empty."""
        counts = ((self.without_prompt, self.prompts), (self.without_answer, self.rows))
        if all(lost <= self.MOST_LOST * rows for lost, rows in counts):
            return ""
        shown = "".join(f"; {one.origin}: {one.text!r} became {one.tokens!r}" for one in self.examples[:1])
        return (
            f"what the rows say does not reach the tokens: of {self.rows} rows {self.without_prompt} lost their prompt "
            f"and {self.without_answer} their answer{shown}. The chat template or the tokenizer drops it"
        )


class AnswerProblems(Report):
    """Answers that are empty or truncated."""

    empty: int
    """Rows with an empty answer. They are bad rows."""
    empty_origins: list[str]
    """Where the first of them were read."""
    truncation: Truncation | None
    """None where training.max_length is not known."""


class GeneralSet(Report):
    """The general evaluation set, on which forgetting is measured."""

    source: str
    fingerprint: str
    """Hash of its rows. It is not part of the dataset's fingerprint, as no model is trained on them."""
    read: int
    rows: int
    bad: int
    duplicates: int
    screened: int
    """Dropped because of the policy or data.personal_data."""
    left_out: int
    """Valid, and left out for what they are."""
    train_overlap: int
    """Dropped because train has their prompt, or a near-duplicate of them."""


class LengthStatistics(Report):
    """Lengths in tokens of the prompts or completions of a split."""

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
    """Lengths of prompts and completions, in tokens of the model's tokenizer, without the chat template."""

    edges: dict[TextPart, list[int]]
    """Lower edges of the histogram's bins; the last bin has no upper edge."""
    train: dict[TextPart, LengthStatistics]
    eval: dict[TextPart, LengthStatistics]


class RowCounts(Report):
    """What became of the rows of source and eval source: `read` is the sum of the others."""

    read: int
    train: int
    eval: int
    bad: int
    duplicates: int
    prompt_overlap: int
    """Dropped because the other split has their prompt."""
    near_duplicates: int
    """Dropped as near-duplicates (data.near_duplicates)."""
    personal_data: int
    """Dropped because of personal data (data.personal_data)."""
    policy: int
    """Dropped by the safety policy."""
    left_out: int
    """Valid, and left out for what they are or for the weight of their source; `notes` of the report says why."""


class RowNote(Report):
    """Something that was changed, not read or left out of valid rows."""

    kind: str
    rows: int
    left_out: bool
    """Whether the rows are left out as a whole."""
    origins: list[str]
    """Where the first of them were read: `file:line`."""


class SampleRow(Report):
    """A row to look at; long contents are cut."""

    id: str
    origin: str
    messages: list[Message] | None
    text: str | None


class SourceReport(Report):
    """A source as it was read."""

    name: str
    bytes: int | None
    """Total size of its files as stored; None where it has no files."""
    row_format: str
    """messages, sharegpt, alpaca, prompt-completion, text and the like; empty where it has no valid row."""
    columns: dict[str, str]
    """The source's column by its name in data.columns."""
    unused_columns: list[str]
    """Its columns that no row was made of, in the first rows."""
    rows: int
    """Valid rows that were read; chunks, where a text was cut."""
    weight: float
    """How often its rows are trained on in an epoch."""


class DatasetReport(Report):
    """What was read, kept and dropped."""

    FILE: ClassVar[str] = "report.json"

    identity: StepIdentity

    fingerprint: str
    """Hash of the content of the rows of train and eval, whatever their order."""
    sources: list[SourceReport]
    """Source, eval source and general source, as far as they are set."""
    rows: RowCounts
    bad_fraction: float
    bad_kinds: dict[str, int]
    """Number of problems by kind. A bad row may have several."""
    bad_rows: list[RowProblem]
    """The first problems; all are in bad_rows.jsonl."""
    notes: list[RowNote]
    """What was changed, not read or left out of valid rows, the most frequent first."""
    duplicates: list[Duplicate]
    """The first rows that repeat another."""
    prompt_overlaps: list[Duplicate]
    """The first rows that were dropped because the other split has their prompt."""
    lengths: LengthReport
    near_duplicates: NearDuplicates
    contamination: Contamination
    personal_data: PersonalDataFindings
    answers: AnswerProblems
    content: ContentReport
    policy: PolicyFindings | None
    """None without a policy."""
    labels: dict[str, dict[Split, int]] | None
    """Rows of train and eval by answer, where there are few different answers; else None."""
    general: GeneralSet | None
    """None where data.general_source is empty."""
    samples: dict[Split, list[SampleRow]]
    """A few rows of train and of eval."""

    def headline(self) -> str:
        """The report in a line."""
        rows = self.rows
        dropped = {
            "bad": rows.bad,
            "duplicate": rows.duplicates,
            "with a prompt of the other split": rows.prompt_overlap,
            "nearly duplicate": rows.near_duplicates,
            "with personal data": rows.personal_data,
            "against the policy": rows.policy,
            "left out for what they are": rows.left_out,
        }
        shown = ", ".join(f"{number:,} {what}" for what, number in dropped.items() if number)
        return f"{rows.train:,} rows to train on, {rows.eval:,} to evaluate on" + (
            f"; dropped: {shown}" if shown else ""
        )
