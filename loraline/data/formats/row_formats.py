"""The formats of rows: which columns they have, and how their fields become messages or text.

To add a format: write a RowFormat, put it into ROW_FORMATS, and add its columns to `loraline.data.config.Columns`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from loraline.artifacts.dataset_files import Message, Tool
from loraline.data.formats.turns import read_conversation
from loraline.data.validation.fields import FieldReader


@dataclass(frozen=True, slots=True)
class RowContent:
    """The normalized content of a row. Exactly one of messages and text is set."""

    messages: list[Message] | None = None
    text: str | None = None
    tools: list[Tool] | None = None
    """The tools that the assistant of a conversation may call."""


@dataclass(frozen=True)
class RowFormat:
    """A format of rows."""

    name: str
    required: tuple[str, ...]
    """Columns, by their names in `loraline.data.config.Columns`."""
    optional: tuple[str, ...]
    convert: Callable[[FieldReader], RowContent]
    """Convert a row's fields. Problems are collected by the reader."""


def _prompt_completion(fields: FieldReader) -> RowContent:
    return _one_turn(fields, fields.text("prompt"), "completion")


def _alpaca(fields: FieldReader) -> RowContent:
    parts = [fields.text("instruction"), fields.text("input", required=False)]
    return _one_turn(fields, "\n\n".join(part for part in parts if part), "output")


def _openai_messages(fields: FieldReader) -> RowContent:
    return RowContent(read_conversation(fields, "messages"))


def _sharegpt(fields: FieldReader) -> RowContent:
    return RowContent(read_conversation(fields, "conversations"))


def _plain_text(fields: FieldReader) -> RowContent:
    return RowContent(text=fields.text("text"))


def _one_turn(fields: FieldReader, prompt: str, answer_column: str) -> RowContent:
    user: Message = {"role": "user", "content": prompt}
    assistant: Message = {"role": "assistant", "content": fields.answer(answer_column)}
    return RowContent([*fields.system_messages(), user, assistant])


PLAIN_TEXT = RowFormat("text", ("text",), (), _plain_text)
# In order of preference: a dataset may carry the same rows in two formats.
ROW_FORMATS = (
    RowFormat("messages", ("messages",), ("system",), _openai_messages),
    RowFormat("sharegpt", ("conversations",), ("system",), _sharegpt),
    RowFormat("alpaca", ("instruction", "output"), ("input", "system"), _alpaca),
    RowFormat("prompt-completion", ("prompt", "completion"), ("system",), _prompt_completion),
    PLAIN_TEXT,
)
