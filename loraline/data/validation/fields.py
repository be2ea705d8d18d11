"""Read and validate the fields of a record, collecting every problem."""

import json
from typing import Any

from loraline.artifacts.dataset import RowProblem
from loraline.artifacts.dataset_files import Message
from loraline.data.formats.json_values import without_nulls
from loraline.data.reading.encodings import encoding_hint
from loraline.data.reading.records import SourceRecord
from loraline.data.reading.text_normalization import UNDECODABLE, normalize

EMPTY_FIELD = "empty field"
EMPTY_ANSWER = "empty answer"
"""Kind of problem of a row whose answer is empty."""
_SHOWN_CHARACTERS = 60


def shorten(value: Any) -> str:
    """A value as shown in a problem's reason."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _encoding_hint(text: str) -> str:
    """The setting that would decode a text with bytes that are not UTF-8; empty where it came of something else."""
    try:
        return encoding_hint(text.encode("utf-8", errors="surrogateescape"))
    except UnicodeEncodeError:  # a lone surrogate in JSON
        return ""


class FieldReader:
    """Reads a record's fields by the name that `loraline.data.config.Columns` has for their column."""

    def __init__(self, record: SourceRecord, columns: dict[str, str]) -> None:
        self._record = record
        self._columns = columns
        self.problems: list[RowProblem] = []
        self.notes: tuple[str, ...] = ()
        """What was changed or not read of a valid record, each once."""
        self.left_out = ""
        """Why a valid record is left out; empty: it is not."""
        self.group = record.group
        """Rows of one group go to the same split; empty: by the hash of the prompt."""

    @property
    def has_filled_nulls(self) -> bool:
        """Whether a null may stand for a key that the record does not have."""
        return self._record.has_filled_nulls

    @property
    def names(self) -> list[str]:
        """Names of the record's fields, sorted."""
        return sorted(self._record.fields)

    def column(self, name: str) -> str:
        """The source's column."""
        return self._columns.get(name, "")

    def value(self, column: str) -> Any:
        """The raw value in a column of the source; None where it is missing."""
        return self._record.fields.get(column)

    def text(self, name: str, required: bool = True, empty: str = EMPTY_FIELD) -> str:
        """The normalized text of a field; "" where it has a problem, or is optional and missing."""
        column = self.column(name)
        if column not in self._record.fields:
            if required:
                self.add_problem(column, "missing field", f"missing; the row has {self.names}")
            return ""
        return self.check_text(self._record.fields[column], column, required, empty)

    def answer(self, name: str) -> str:
        """The normalized text of the field with the answer."""
        return self.text(name, empty=EMPTY_ANSWER)

    def system_messages(self) -> list[Message]:
        """The system message of the row's `system` column, if any."""
        text = self.text("system", required=False)
        return [{"role": "system", "content": text}] if text else []

    def check_text(self, value: Any, location: str, required: bool = True, empty: str = EMPTY_FIELD) -> str:
        """Validate and normalize text.

        Args:
            value: what should be text.
            location: the column, or the place in it such as `messages[2].content`.
            required: whether it may be missing or empty.
            empty: the kind of problem where it is required and empty.
        """
        if value is None and not required:
            return ""
        if not isinstance(value, str):
            kind = empty if value is None else "wrong type"
            self.add_problem(location, kind, f"must be text, is {type(value).__name__}: {shorten(value)}")
            return ""
        if not value.isascii() and UNDECODABLE.search(value):
            self.add_problem(location, "invalid UTF-8", f"not valid Unicode: {shorten(value)}{_encoding_hint(value)}")
            return ""
        text = normalize(value)
        if required and not text.strip():
            self.add_problem(location, empty, "empty")
        return text if text.strip() else ""

    def as_json(self, value: Any) -> str:
        """A value as JSON text."""
        return json.dumps(without_nulls(value) if self.has_filled_nulls else value, ensure_ascii=False)

    def note(self, kind: str) -> None:
        """Note that something of the record is changed or not read."""
        if kind not in self.notes:
            self.notes = (*self.notes, kind)

    def leave_out(self, kind: str) -> None:
        """Leave a valid record out."""
        self.left_out = kind

    def add_problem(self, location: str, kind: str, reason: str) -> None:
        """Add a problem of this record."""
        record = self._record
        self.problems.append(RowProblem(file=record.file, line=record.line, column=location, kind=kind, reason=reason))
