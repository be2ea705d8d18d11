"""From a record's fields to a row's content: which column plays which part, and what is wrong where."""

import json
from dataclasses import dataclass
from typing import Any

from loraline.artifacts.dataset_files import Message
from loraline.data.config import Columns
from loraline.data.normalize import UNDECODED, clean
from loraline.data.reading.records import Problem, Record
from loraline.errors import DatasetError

# In this order of preference: a data set may carry the same rows in two shapes.
_REQUIRED = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt": ("prompt", "completion"),
    "text": ("text",),
}
_OPTIONAL = {"alpaca": ("input", "system"), "text": ()}
_OPTIONAL_ELSE = ("system",)
EMPTY_ANSWER = "empty answer"
"""The kind of problem that a row has whose answer is empty."""
_ANSWERS = ("completion", "output")
_ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


@dataclass(frozen=True)
class Layout:
    """The shape of a source's rows, and which column plays which part."""

    shape: str
    columns: dict[str, str]
    """From part to column."""


@dataclass(frozen=True, slots=True)
class Content:
    """A row's content, cleaned. Exactly one of the two is set."""

    messages: list[Message] | None = None
    text: str | None = None


def find_layout(present: list[str], wanted: Columns, source: str) -> Layout:
    """Tell a source's shape from the columns that are present; the columns that the recipe names win.

    Raises:
        DatasetError: a named column does not exist, or no shape's columns are there.
    """
    named = {part: column for part, column in wanted.model_dump().items() if column}
    unknown = {part: column for part, column in named.items() if column not in present}
    if unknown:
        which = ", ".join(f"data.columns.{part} = {column!r}" for part, column in unknown.items())
        raise DatasetError(f"{which}: {source!r} has no such column; its columns are {present}")
    for shape, required in _REQUIRED.items():
        parts = {*required, *_OPTIONAL.get(shape, _OPTIONAL_ELSE)}
        about = set(named) - {"system"}
        if (about and not about <= parts) or not set(named) <= parts:
            continue
        columns = {part: named.get(part, part) for part in (*required, *_OPTIONAL.get(shape, _OPTIONAL_ELSE))}
        columns = {part: column for part, column in columns.items() if column in present}
        if all(part in columns for part in required):
            return Layout(shape, columns)
    shapes = "; ".join(" + ".join(required) for required in _REQUIRED.values())
    raise DatasetError(
        f"the columns of {source!r} are {present}, which is none of the shapes ({shapes}). Say which column plays "
        "which part, for instance data.columns.prompt=question data.columns.completion=answer"
    )


def content_of(record: Record, layout: Layout) -> Content | list[Problem]:
    """Check a record and give its content, or everything that is wrong with it."""
    reader = _FieldReader(record, layout)
    match layout.shape:
        case "text":
            content = Content(text=reader.text("text"))
        case "prompt":
            content = Content([*reader.system(), _user(reader.text("prompt")), _assistant(reader.text("completion"))])
        case "alpaca":
            parts = [reader.text("instruction"), reader.text("input", required=False)]
            prompt = "\n\n".join(part for part in parts if part)
            content = Content([*reader.system(), _user(prompt), _assistant(reader.text("output"))])
        case "messages":
            content = Content(reader.turns("messages"))
        case _:
            content = Content(reader.turns("conversations"))
    return reader.problems or content


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _FieldReader:
    """Reads a record's fields by the part they play, and collects what is wrong with them."""

    def __init__(self, record: Record, layout: Layout) -> None:
        self._record = record
        self._columns = layout.columns
        self.problems: list[Problem] = []

    def _wrong(self, column: str, kind: str, reason: str) -> None:
        self.problems.append(Problem(self._record.file, self._record.line, column, kind, reason))

    def text(self, part: str, required: bool = True) -> str:
        """The cleaned text of a part; "" where it is wrong, or optional and not there."""
        column = self._columns.get(part, "")
        if column not in self._record.fields:
            if required:
                self._wrong(column, "missing field", f"missing; the row has {sorted(self._record.fields)}")
            return ""
        empty = EMPTY_ANSWER if part in _ANSWERS else "empty field"
        return self._checked(self._record.fields[column], column, required, empty)

    def _checked(self, value: Any, column: str, required: bool = True, empty: str = "empty field") -> str:
        if value is None and not required:
            return ""
        if not isinstance(value, str):
            kind = empty if value is None else "wrong type"
            self._wrong(column, kind, f"must be text, is {type(value).__name__}: {_shown(value)}")
            return ""
        if UNDECODED.search(value):
            self._wrong(column, "invalid UTF-8", f"not valid Unicode: {_shown(value)}")
            return ""
        text = clean(value)
        if required and not text.strip():
            self._wrong(column, empty, "empty")
        return text if text.strip() else ""

    def system(self) -> list[Message]:
        """The system turn that the row's own column gives, if any."""
        text = self.text("system", required=False)
        return [{"role": "system", "content": text}] if text else []

    def turns(self, part: str) -> list[Message]:
        """The turns of a conversation, checked one by one and as a whole."""
        column = self._columns[part]
        turns = self._list(column)
        messages = [self._turn(turn, f"{column}[{number}]") for number, turn in enumerate(turns)]
        messages = [*self.system(), *messages]
        if not self.problems:
            self._check_order([message["role"] for message in messages], column)
        return messages

    def _list(self, column: str) -> list[Any]:
        value = self._record.fields.get(column)
        if value is None:
            self._wrong(column, "missing field", f"missing or null; the row has {sorted(self._record.fields)}")
            return []
        if isinstance(value, str):  # CSV holds nothing but text
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                self._wrong(column, "invalid JSON", f"must be a list of turns, is text that is not JSON: {error}")
                return []
        if not isinstance(value, list):
            self._wrong(column, "wrong type", f"must be a list of turns, is {type(value).__name__}: {_shown(value)}")
            return []
        if not value:
            self._wrong(column, "empty field", "no turns")
        return value

    def _turn(self, turn: Any, place: str) -> Message:
        if not isinstance(turn, dict):
            self._wrong(place, "wrong type", f"a turn must be an object, is {type(turn).__name__}: {_shown(turn)}")
            return {"role": "", "content": ""}
        role_key, content_key = ("from", "value") if turn.get("from") is not None else ("role", "content")
        role = turn.get(role_key)
        if not isinstance(role, str) or role not in _ROLES:
            known = ", ".join(_ROLES)
            self._wrong(f"{place}.{role_key}", "unknown role", f"unknown role {_shown(role)}; known are {known}")
            role = ""
        role = _ROLES.get(role, "")
        empty = EMPTY_ANSWER if role == "assistant" else "empty field"
        return {"role": role, "content": self._checked(turn.get(content_key), f"{place}.{content_key}", empty=empty)}

    def _check_order(self, roles: list[str], column: str) -> None:
        if "assistant" not in roles:
            self._wrong(column, "no assistant turn", f"no assistant turn to learn from; the roles are {roles}")
            return
        spoken = roles[1:] if roles[0] == "system" else roles
        for number, role in enumerate(spoken, len(roles) - len(spoken)):
            expected = "user" if (number - len(roles) + len(spoken)) % 2 == 0 else "assistant"
            if role != expected:
                reason = f"turn {number} is the {role}'s where the {expected}'s is due; the roles are {_shown(roles)}"
                self._wrong(column, "roles out of order", reason)
                return
        if roles[-1] != "assistant":
            self._wrong(column, "roles out of order", "the last turn must be the assistant's, is the user's")
