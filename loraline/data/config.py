"""What may be set about the data."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from loraline.config import StepConfig


class Columns(BaseModel):
    """Which column of the source plays which part. Empty: found from the column names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompt: str = ""
    """Column with the prompt (prompt/completion shape)."""
    completion: str = ""
    """Column with the completion (prompt/completion shape)."""
    instruction: str = ""
    """Column with the instruction (Alpaca shape)."""
    input: str = ""
    """Column with the optional input to the instruction (Alpaca shape)."""
    output: str = ""
    """Column with the output (Alpaca shape)."""
    system: str = ""
    """Column with a system prompt for the row (any shape but plain text)."""
    messages: str = ""
    """Column with OpenAI messages: a list of {role, content}."""
    conversations: str = ""
    """Column with ShareGPT conversations: a list of {from, value}."""
    text: str = ""
    """Column with plain text."""

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        named = {name for name, column in self.model_dump().items() if column}
        shapes = ({"prompt", "completion"}, {"instruction", "input", "output"}, {"messages"}, {"conversations"})
        if named and not any(named <= shape | {"system"} for shape in shapes) and named != {"text"}:
            raise ValueError(
                f"{', '.join(sorted(named))} do not belong to one shape; name columns of one of: prompt + completion, "
                "instruction + input + output, messages, conversations (each with system or not), or text alone"
            )
        return self


class DataConfig(StepConfig):
    """Where rows come from and which of them are used."""

    source: str
    """Where the rows are: a local file or folder, `s3://bucket/key`, `hf://owner/dataset`, or `builtin:dates`."""
    eval_source: str = ""
    """Rows to evaluate on, named like `source`. Empty: a part of `source` is set apart."""
    general_source: str = ""
    """Rows to measure forgetting on, which are never trained on; named like `source`. Empty: it is not measured."""
    revision: str = ""
    """Commit, tag or branch of a Hugging Face dataset. It is pinned to a commit before anything is read."""
    eval_revision: str = ""
    """The same of `eval_source`, where that is a Hugging Face dataset."""
    general_revision: str = ""
    """The same of `general_source`, of which the split "train" is read."""
    subset: str = ""
    """Configuration name of a Hugging Face dataset."""
    split: str = "train"
    """Split of a Hugging Face dataset."""
    eval_split: str = "test"
    """The same of `eval_source`, where that is a Hugging Face dataset."""
    format: Literal["auto", "jsonl", "json", "csv", "tsv", "parquet", "txt"] = "auto"
    """File format. auto: by the file name, with .gz or .zst behind it or not."""
    columns: Columns = Columns()
    """Which column plays which part. Empty: found from the column names."""
    max_bad_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Fraction of rows (0 to 1) that may be dropped as invalid. 0: the first invalid row fails the run."""
    eval_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Fraction of rows (0 to 1) set apart for evaluation, chosen by a hash of the prompt."""
    chunk_tokens: int = Field(default=512, ge=16)
    """Longest chunk of a plain-text file, in tokens of the model's tokenizer."""
    chunk_overlap: int = Field(default=64, ge=0)
    """Tokens that a chunk may repeat, in whole sentences, from the one before. Smaller than `chunk_tokens`."""
    near_duplicates: Literal["report", "drop"] = "report"
    """What is done about rows that nearly repeat another: tell of them, or leave all but one of them out."""
    near_duplicate_similarity: float = Field(default=0.85, gt=0.0, le=1.0)
    """Jaccard similarity of two rows' word triples (0 to 1) from which one nearly repeats the other."""
    personal_data: Literal["report", "mask", "drop"] = "report"
    """What is done about e-mail addresses, phone numbers, keys and the like: tell of them, write [EMAIL] and so on in
    their place, or leave their rows out."""

    def sources(self) -> dict[str, tuple[str, str, str, str]]:
        """What is read: address, revision, subset and split, by the field that the revision stands in."""
        named = {
            "revision": (self.source, self.revision, self.subset, self.split),
            "eval_revision": (self.eval_source, self.eval_revision, self.subset, self.eval_split),
            "general_revision": (self.general_source, self.general_revision, "", "train"),
        }
        return {field: source for field, source in named.items() if source[0]}

    @model_validator(mode="after")
    def _overlap_below_chunk(self) -> Self:
        if self.chunk_overlap >= self.chunk_tokens:
            raise ValueError(
                f"chunk_overlap must be smaller than chunk_tokens, got {self.chunk_overlap} and {self.chunk_tokens}"
            )
        return self
