"""What the readers yield: a record of the source, or the problem with one."""

from dataclasses import dataclass
from typing import Any

from loraline.artifacts.dataset import RowProblem


@dataclass(slots=True)  # frozen takes twice as long to make, for every row
class SourceRecord:
    """One row of a source, its fields unchanged."""

    file: str
    line: int
    """Line on which the row begins, from 1. For parquet, JSON arrays and the Hub: the row's number, from 1."""
    fields: dict[str, Any]
    group: str = ""
    """Rows of one group go to the same split. Empty: the hash of the prompt decides."""
    has_filled_nulls: bool = False
    """Whether nulls fill in for the keys that other rows' objects have (Arrow)."""

    @property
    def origin(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"


ReadResult = SourceRecord | RowProblem
