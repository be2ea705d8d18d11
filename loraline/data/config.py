"""Settings of the data."""

from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from loraline.config import StepConfig


class Columns(BaseModel):
    """Names of the source's columns. Empty: a column of the field's own name is used, if there is one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompt: str = ""
    """Column with the prompt (prompt-completion format)."""
    completion: str = ""
    """Column with the completion (prompt-completion format)."""
    instruction: str = ""
    """Column with the instruction (Alpaca format)."""
    input: str = ""
    """Column with the optional input to the instruction (Alpaca format)."""
    output: str = ""
    """Column with the output (Alpaca format)."""
    system: str = ""
    """Column with a system prompt for the row (any format but plain text)."""
    messages: str = ""
    """Column with OpenAI messages: a list of {role, content}."""
    conversations: str = ""
    """Column with ShareGPT conversations: a list of {from, value}."""
    text: str = ""
    """Column with plain text."""

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        named = {name for name, column in self.model_dump().items() if column}
        formats = ({"prompt", "completion"}, {"instruction", "input", "output"}, {"messages"}, {"conversations"})
        if named and not any(named <= columns | {"system"} for columns in formats) and named != {"text"}:
            raise ValueError(
                f"{', '.join(sorted(named))} do not belong to one row format; name columns of one of: prompt + "
                "completion, instruction + input + output, messages, conversations (each optionally with system), or "
                "text alone"
            )
        return self


class SourceAddress(NamedTuple):
    """Where rows are."""

    source: str
    """See `data.source`."""
    revision: str
    """Of a Hugging Face dataset, as are subset and split."""
    subset: str
    split: str


class DataConfig(StepConfig):
    """Where rows come from and which of them are used."""

    source: str
    """Where the rows are: a local file or folder, `s3://bucket/key`, `hf://owner/dataset`, or `builtin:dates`."""
    eval_source: str = ""
    """Rows to evaluate on, named like `source`. Empty: a fraction of `source` is held out."""
    general_source: str = ""
    """General evaluation set to measure forgetting on, never trained on; named like `source`. Empty: not measured."""
    revision: str = ""
    """Commit, tag or branch of a Hugging Face dataset. It is pinned to a commit before anything is read."""
    eval_revision: str = ""
    """Revision of `eval_source`, if that is a Hugging Face dataset."""
    general_revision: str = ""
    """Revision of `general_source`, if that is a Hugging Face dataset. Its split "train" is read."""
    subset: str = ""
    """Configuration name of a Hugging Face dataset."""
    split: str = "train"
    """Split of a Hugging Face dataset."""
    eval_split: str = "test"
    """Split of `eval_source`, if that is a Hugging Face dataset."""
    format: Literal["auto", "jsonl", "json", "csv", "tsv", "parquet", "txt"] = "auto"
    """File format. auto: by the file name. All but parquet may be compressed (.gz, .zst)."""
    columns: Columns = Columns()
    """Names of the source's columns. Empty: detected from the column names."""
    max_bad_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Fraction of rows (0 to 1) that may be dropped as invalid. 0: the first invalid row fails the run."""
    eval_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Fraction of rows (0 to 1) held out for evaluation, chosen by a hash of the prompt."""
    chunk_tokens: int = Field(default=512, ge=16)
    """Plain text (txt files and `text` columns) with more tokens is cut into chunks of at most this many, at sentence
    ends. Refused if no source is plain text."""
    chunk_overlap: int = Field(default=64, ge=0)
    """Tokens that a chunk may repeat, in whole sentences, from the one before. Smaller than `chunk_tokens`."""
    near_duplicates: Literal["report", "drop"] = "report"
    """What is done about near-duplicate rows: report them, or drop all but one."""
    near_duplicate_similarity: float = Field(default=0.85, gt=0.0, le=1.0)
    """Jaccard similarity of two rows' word trigrams (0 to 1) from which they are near-duplicates."""
    personal_data: Literal["report", "mask", "drop"] = "report"
    """What is done about e-mail addresses, phone numbers, keys and the like: report them, replace them by [EMAIL] and
    so on, or drop their rows."""

    def sources(self) -> dict[str, SourceAddress]:
        """The sources that are read, by the name of the field with their revision."""
        addresses = {
            "revision": SourceAddress(self.source, self.revision, self.subset, self.split),
            "eval_revision": SourceAddress(self.eval_source, self.eval_revision, self.subset, self.eval_split),
            "general_revision": SourceAddress(self.general_source, self.general_revision, "", "train"),
        }
        return {field: address for field, address in addresses.items() if address.source}

    @model_validator(mode="after")
    def _overlap_below_chunk(self) -> Self:
        if self.chunk_overlap >= self.chunk_tokens:
            raise ValueError(
                f"chunk_overlap must be smaller than chunk_tokens, got {self.chunk_overlap} and {self.chunk_tokens}"
            )
        return self
