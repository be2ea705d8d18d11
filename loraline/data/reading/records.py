"""What readers hand on: a record as it lies in the source, or what is wrong with one."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a source, its fields as they are."""

    file: str
    line: int
    """Line where the row begins; for parquet, JSON arrays and the Hub, the row's number. From 1."""
    fields: dict[str, Any]
    group: str = ""
    """Rows with the same group are never split between train and eval. Empty: the prompt decides."""

    @property
    def place(self) -> str:
        """Where the row is, as people and editors write it."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
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

    def __str__(self) -> str:
        column = f" column {self.column!r}:" if self.column else ""
        return f"{self.file}:{self.line}:{column} {self.reason}"
