"""The sources of rows, as a recipe names them: addresses, or mappings with what holds for a source alone."""

import codecs
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic import ValidationError as PydanticValidationError

from loraline.data.source_address import RowSlice, SourceAddress

FileFormat = Literal["auto", "jsonl", "json", "csv", "tsv", "parquet", "xlsx", "txt"]


def _known_encoding(name: str) -> str:
    try:
        return name if name == "auto" else codecs.lookup(name).name
    except LookupError as error:
        raise ValueError(
            "there is no such encoding; cp1252, latin-1, utf-16, gb18030 and shift-jis are some"
        ) from error


Encoding = Annotated[str, AfterValidator(_known_encoding)]


class Columns(BaseModel):
    """Names of the source's columns. Empty: a column of the field's own name is used, if there is one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompt: str = ""
    """Column with the prompt (prompt-completion format): text, or a list of turns."""
    completion: str = ""
    """Column with the completion (prompt-completion format, or after messages or conversations that end with the user):
    text, a turn, or a list of turns. `completion: chosen` trains on the preferred answers of preference data."""
    instruction: str = ""
    """Column with the instruction (Alpaca format)."""
    input: str = ""
    """Column with the optional input to the instruction or the prompt (Alpaca and prompt-completion formats)."""
    output: str = ""
    """Column with the output (Alpaca format)."""
    system: str = ""
    """Column with a system prompt for the row (any format but plain text)."""
    messages: str = ""
    """Column with OpenAI messages: a list of {role, content}."""
    conversations: str = ""
    """Column with ShareGPT conversations: a list of {from, value}."""
    history: str = ""
    """Column with earlier turns: a list of pairs [user, assistant] (Alpaca format)."""
    tools: str = ""
    """Column with the tools that the assistant may call: a list, or JSON text of one (any format but plain text)."""
    label: str = ""
    """Column with the verdict on the answer (KTO): rows where it is false are left out."""
    text: str = ""
    """Column with plain text."""

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        named = {name for name, column in self.model_dump().items() if column}
        formats = (
            {"prompt", "input", "completion"},
            {"instruction", "input", "output", "history"},
            {"messages", "completion"},
            {"conversations", "completion"},
        )
        with_any = {"system", "tools", "label"}
        if named and not any(named <= columns | with_any for columns in formats) and named != {"text"}:
            raise ValueError(
                f"{', '.join(sorted(named))} do not belong to one row format; name columns of one of: prompt + input + "
                "completion, instruction + input + output + history, messages + completion, conversations + completion "
                "(each optionally with system, tools and label), or text alone"
            )
        return self


class DataSource(BaseModel):
    """One of several sources, with what holds for it alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    source: str = Field(min_length=1)
    """Its address, as of `data.source`."""
    revision: str = ""
    """Commit, tag or branch, if it is a Hugging Face dataset."""
    format: FileFormat = "auto"
    """File format. auto: `data.format`, or by the file name."""
    encoding: Encoding = "auto"
    """Text encoding. auto: `data.encoding`."""
    columns: Columns = Columns()
    """Names of its columns. Empty: `data.columns`, or detected."""
    weight: float = Field(default=1.0, gt=0.0, le=100.0)
    """How often its rows are trained on in an epoch: 1 once, 3 three times, 0.5 a half of them, chosen by a hash."""
    max_rows: int = Field(default=0, ge=0)
    """At most this many rows, its first ones, are read. 0: `data.max_rows`."""


def _parse_sources(value: Any) -> str | tuple[DataSource, ...]:
    """A source, or several: an address, a mapping of `DataSource`, a list of these, or such as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):  # as KFP's form gives several
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"neither an address nor the JSON of several sources: {error}") from error
    if isinstance(value, str):
        return value
    entries = value if isinstance(value, list | tuple) else [value]
    try:
        return tuple(DataSource.model_validate({"source": one} if isinstance(one, str) else one) for one in entries)
    except PydanticValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'an entry'} = {one['input']!r}: {one['msg']}" for one in error.errors()
        )
        known = ", ".join(DataSource.model_fields)
        raise ValueError(f"a source is an address, or a mapping with {known}: {problems}") from error


Sources = Annotated[str | tuple[DataSource, ...], BeforeValidator(_parse_sources)]


@dataclass(frozen=True)
class SourceRequest:
    """A source to read, with all that holds for it."""

    setting: str
    """Where a recipe names it: `source`, or `source[1]` where it names several."""
    name: str
    """The address as the recipe writes it."""
    address: SourceAddress
    rows: RowSlice
    file_format: str
    encoding: str
    columns: Columns
    weight: float
    max_rows: int
