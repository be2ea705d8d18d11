"""The formats of rows: which columns they have, and how their fields become messages or text.

To add a format: write a RowFormat, put it into ROW_FORMATS, and add its columns to
`loraline.data.source_config.Columns` if a recipe may name them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from loraline.artifacts.dataset_files import Message
from loraline.data.formats.json_values import parsed
from loraline.data.formats.message_trees import gather_trees, read_tree
from loraline.data.formats.row_content import RowContent
from loraline.data.formats.tool_calls import read_tools
from loraline.data.formats.transcripts import is_transcript, parse_transcript, tools_in_system_text
from loraline.data.formats.turns import finish_conversation, read_conversation, read_turn, read_turns
from loraline.data.reading.records import ReadResult
from loraline.data.validation.fields import EMPTY_ANSWER, FieldReader, shorten


@dataclass(frozen=True)
class RowFormat:
    """A format of rows."""

    name: str
    required: tuple[str, ...]
    """Columns, by their names in `loraline.data.source_config.Columns`."""
    optional: tuple[str, ...]
    convert: Callable[[FieldReader], RowContent | list[RowContent]]
    """Convert a row's fields. Problems are collected by the reader."""
    other_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names that a column of this format has elsewhere, in order of preference after its own."""
    only_named: tuple[str, ...] = ()
    """Optional columns that are used only where the recipe names them."""
    gather: Callable[[Iterator[ReadResult]], Iterator[ReadResult]] | None = None
    """Makes one record of several, where a row is only a part of a conversation."""


def _prompt_completion(fields: FieldReader) -> RowContent:
    prompt = fields.value(fields.column("prompt"))
    if _are_turns(prompt):  # TRL's conversations
        return _with_answer(fields, read_turns(fields, prompt, fields.column("prompt")), "completion")
    parts = [fields.text("prompt"), fields.text("input", required=False)] if fields.column("input") else None
    return _with_answer(fields, [_user(parts or [fields.text("prompt")])], "completion")


def _alpaca(fields: FieldReader) -> RowContent:
    return _with_answer(
        fields, [*_history(fields), _user(_instruction(fields, fields.text("input", required=False)))], "output"
    )


def _instruction(fields: FieldReader, given: str) -> list[str]:
    """The instruction and its input; one of them may be empty."""
    return [fields.text("instruction", required=not given), given]


def _instances(fields: FieldReader) -> list[RowContent]:
    """An instruction with several inputs and outputs (self-instruct)."""
    column = fields.column("instances")
    instances = parsed(fields.value(column))
    if not isinstance(instances, list) or not instances or not all(isinstance(one, dict) for one in instances):
        reason = f"must be a list of objects with input and output, is {shorten(instances)}"
        fields.add_problem(column, "wrong type", reason)
        return []
    fields.group = fields.text("instruction", required=False)
    contents = []
    for number, instance in enumerate(instances):
        place = f"{column}[{number}]"
        given = fields.check_text(instance.get("input"), f"{place}.input", required=False)
        answer = fields.check_text(instance.get("output"), f"{place}.output", empty=EMPTY_ANSWER)
        messages = [_user(_instruction(fields, given)), _assistant(answer)]
        contents.append(RowContent([*fields.system_messages(), *messages]))
    return contents


def _history(fields: FieldReader) -> list[Message]:
    """Earlier turns of an Alpaca row: pairs of what the user and the assistant said."""
    column = fields.column("history")
    pairs = parsed(fields.value(column)) if column else None
    if pairs in (None, "", []):
        return []
    if not isinstance(pairs, list) or not all(isinstance(one, list) and len(one) == 2 for one in pairs):
        reason = f"must be a list of pairs [user, assistant], is {shorten(pairs)}"
        fields.add_problem(column, "wrong type", reason)
        return []
    messages = []
    for number, (said, answer) in enumerate(pairs):
        place = f"{column}[{number}]"
        messages.append(_user([fields.check_text(said, f"{place}[0]")]))
        messages.append(_assistant(fields.check_text(answer, f"{place}[1]", empty=EMPTY_ANSWER)))
    return messages


def _conversation(column: str) -> Callable[[FieldReader], RowContent]:
    def convert(fields: FieldReader) -> RowContent:
        messages = read_conversation(fields, column)
        if fields.column("completion"):
            messages += _answer(fields, "completion")
        return _content(fields, messages, fields.column(column))

    return convert


def _glaive(fields: FieldReader) -> RowContent:
    """Tools in the text of a system prompt, and a transcript with calls as text (glaive-function-calling-v2)."""
    said, tools = tools_in_system_text(fields.text("system", required=False))
    system: list[Message] = [{"role": "system", "content": said}] if said else []
    turns = parse_transcript(fields.text("chat"))
    if not turns and not fields.problems:
        reason = f"must be a transcript (USER: ... ASSISTANT: ...), is {shorten(fields.value('chat'))}"
        fields.add_problem("chat", "wrong type", reason)
    read = [read_turn(fields, turn, f"chat[{number}]") for number, turn in enumerate(turns)]
    return RowContent(finish_conversation(fields, [*system, *read], "chat"), tools=tools or None)


def _plain_text(fields: FieldReader) -> RowContent:
    text = fields.text("text")
    if is_transcript(text):
        column = fields.column("text")
        fields.note(f"transcripts are trained on as plain text; data.columns.messages={column} reads their turns")
    return RowContent(text=text)


def _user(parts: list[str]) -> Message:
    return {"role": "user", "content": "\n\n".join(part for part in parts if part)}


def _assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def _answer(fields: FieldReader, column: str) -> list[Message]:
    """The answer in a column: text, a turn, or a list of turns."""
    name = fields.column(column)
    value = fields.value(name)
    if isinstance(value, dict):
        return [read_turn(fields, value, name)]
    return read_turns(fields, value, name) if _are_turns(value) else [_assistant(fields.answer(column))]


def _are_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)


def _with_answer(fields: FieldReader, messages: list[Message], column: str) -> RowContent:
    if fields.column("system"):
        messages = [*fields.system_messages(), *messages]
    name = fields.column(column)
    if isinstance(fields.value(name), dict | list) or len(messages) > 2:
        return _content(fields, [*messages, *_answer(fields, column)], name)
    messages.append(_assistant(fields.answer(column)))
    return RowContent(messages, tools=read_tools(fields) if fields.column("tools") else None)


def _content(fields: FieldReader, messages: list[Message], name: str) -> RowContent:
    return RowContent(finish_conversation(fields, messages, name), tools=read_tools(fields))


_ANY = ("system", "tools", "label")
_LABEL = {"label": ("kto_tag",), "tools": ("functions",), "system": ("system_prompt",)}
PLAIN_TEXT = RowFormat("text", ("text",), (), _plain_text, {"text": ("content", "document")})
# In order of preference: a dataset may carry the same rows in two formats.
ROW_FORMATS = (
    RowFormat("message trees", ("message_tree_id", "prompt"), (), read_tree),
    RowFormat(
        "tree messages",
        ("message_id", "parent_id", "role", "text"),
        ("message_tree_id",),
        read_tree,
        gather=gather_trees,
    ),
    RowFormat(
        "messages",
        ("messages",),
        (*_ANY, "completion"),
        _conversation("messages"),
        {"messages": ("conversation", "dialogue", "dialog", "turns"), **_LABEL},
        only_named=("completion",),
    ),
    RowFormat(
        "sharegpt", ("conversations",), (*_ANY, "completion"), _conversation("conversations"), _LABEL, ("completion",)
    ),
    RowFormat("glaive", ("system", "chat"), (), _glaive),
    RowFormat("self-instruct", ("instruction", "instances"), ("system",), _instances),
    RowFormat(
        "alpaca",
        ("instruction", "output"),
        ("input", "history", *_ANY),
        _alpaca,
        {"input": ("context", "article", "passage"), "output": ("response", "completion", "answer"), **_LABEL},
    ),
    RowFormat(
        "prompt-completion",
        ("prompt", "completion"),
        ("input", *_ANY),
        _prompt_completion,
        {
            "prompt": ("question", "query", "problem", "input", "inputs"),
            "completion": ("response", "answer", "solution", "output", "outputs", "target", "targets", "generation"),
            "input": ("context", "article", "passage"),
            **_LABEL,
        },
    ),
    PLAIN_TEXT,
)
