"""Check that the model's chat template shows all that rows have, before anything is trained.

Rows of one shape (roles, tools, calls, reasoning) are rendered alike, so one small conversation of each shape is
rendered, with texts that are looked for again.
"""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset_files import Message, Tool
from loraline.data.chat_format import ChatFormat, chat_format
from loraline.data.chat_template import template_variables
from loraline.data.chat_turns import render_row
from loraline.data.messages import last_answer
from loraline.data.rows import Row
from loraline.errors import DatasetError

NOT_SHOWN = "not shown by the template"
"""Kind of problem of a row that the chat template cannot show."""
SILENT = "earlier answers carry no loss: the chat template writes them otherwise in a longer conversation"
REASONING_DROPPED = "the chat template drops the reasoning of earlier answers"

_TOOL: Tool = {
    "type": "function",
    "function": {
        "name": "kqfunction",
        "description": "kqdescription",
        "parameters": {"type": "object", "properties": {"kqname": {"type": "string", "description": "kqmeaning"}}},
    },
}


@dataclass(frozen=True)
class ShapeFinding:
    """What the template makes of rows of one shape."""

    problem: str = ""
    """Why they cannot be trained on; empty where they can."""
    notes: tuple[str, ...] = ()
    """What is to be told of them."""


class TemplateCheck:
    """Checks rows against a tokenizer's chat template; each shape of rows is rendered once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the tokenizer, whose template it is."""
        self._tokenizer = tokenizer
        self._found: dict[Any, ShapeFinding] = {}

    def check(self, row: Row) -> ShapeFinding:
        """What the template makes of a row; plain text needs none."""
        if row.messages is None:
            return ShapeFinding()
        format_ = chat_format(self._tokenizer, row.tools)
        shape = (bool(row.tools), tuple(_turn_shape(format_, turn) for turn in row.messages))
        if shape not in self._found:
            self._found[shape] = _find(format_, row)
        return self._found[shape]


def _turn_shape(format_: ChatFormat, turn: Message) -> Any:
    content = turn["content"]
    if len(turn) == 2 and content and content[0] not in "<[":
        return turn["role"]
    reasons = bool(format_.reasoning_of(turn))
    return turn["role"], bool(content), len(turn.get("tool_calls", ())), reasons, turn.get("train", True)


def _find(format_: ChatFormat, row: Row) -> ShapeFinding:
    messages = [_marked(format_, number, turn) for number, turn in enumerate(row.messages or [])]
    last = last_answer(messages)
    if last is None:
        return ShapeFinding("no answer carries loss, so there is nothing to learn")
    try:
        rendered = render_row(format_, messages[: last + 1], [_TOOL] if row.tools else None)
    except DatasetError as error:
        return ShapeFinding(str(error))
    lost = ["its tools"] if row.tools and "kqfunction" not in rendered.text else []
    notes = [SILENT] if rendered.silent else []
    for number, turn in enumerate(messages[: last + 1]):
        place = f"turn {number} ({turn['role']})"
        if turn["content"] and turn["content"] not in rendered.text:
            lost.append(f"the content of {place}")
        calls = turn.get("tool_calls", [])
        if any(call["name"] not in rendered.text or call["arguments"]["kqkey"] not in rendered.text for call in calls):
            lost.append(f"the tool calls of {place}")
        if turn.get("reasoning_content", "") not in rendered.text:
            if number == last:
                lost.append(f"the reasoning of {place}{_variables(format_)}")
            elif REASONING_DROPPED not in notes:
                notes.append(REASONING_DROPPED)
    if lost:
        return ShapeFinding(
            f"{format_.template.name} does not show {', '.join(lost)}; leave such rows out, or use a model or a "
            "template (model.chat_template) that shows them"
        )
    return ShapeFinding(notes=tuple(notes))


def _marked(format_: ChatFormat, number: int, turn: Message) -> Message:
    """A turn of the same shape, with texts that are found again."""
    marked: Message = {**turn, "content": f"kqturn{number}x" if turn["content"] else turn["content"]}
    if format_.reasoning_of(turn):
        marked["reasoning_content"] = f"kqthought{number}x"
    if "tool_calls" in turn:
        marked["tool_calls"] = [
            {**call, "name": f"kqcall{number}x{i}x", "arguments": {"kqkey": f"kqvalue{number}x{i}x"}}
            for i, call in enumerate(turn["tool_calls"])
        ]
    return marked


def _variables(format_: ChatFormat) -> str:
    """The template's variables that may turn its reasoning on."""
    names = [name for name in template_variables(format_.template.text) if "think" in name or "reason" in name]
    return f" as model.chat_template_kwargs is (it reads {', '.join(names)})" if names else ""
