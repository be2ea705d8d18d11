"""The rows of a prepared dataset, as they lie in train.parquet and eval.parquet."""

import hashlib
import json
from array import array
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow
import pyarrow.parquet

from loraline.artifacts.dataset_files import Message
from loraline.errors import DatasetError

_TURN = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("messages", pyarrow.list_(_TURN)),
        ("text", pyarrow.string()),
        ("origin", pyarrow.string()),
    ]
)
_ROWS_PER_GROUP = 1024
_BYTES_PER_GROUP = 4 << 20  # a group is held in memory until it is written


@dataclass(frozen=True)
class Row:
    """One example: a conversation, or a plain text. Exactly one of `messages` and `text` is set."""

    id: str
    """Hash of the content alone, 32 hexadecimal digits."""
    messages: list[Message] | None
    text: str | None
    origin: str
    """Where the row comes from: `file:line`."""

    @classmethod
    def of(cls, messages: list[Message] | None = None, text: str | None = None, origin: str = "") -> Self:
        """Make a row, with the id that its content gives it."""
        return cls(content_hash(messages, text), messages, text, origin)


def content_hash(messages: list[Message] | None, text: str | None) -> str:
    """Hash the content of a row (32 hexadecimal digits of SHA-256): equal content, equal hash."""
    turns = None if messages is None else [[turn["role"], turn["content"]] for turn in messages]
    content = json.dumps([turns, text], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


class RowWriter:
    """Writes rows into a parquet file group by group, so that memory does not grow with their number."""

    def __init__(self, path: Path) -> None:
        self._writer = pyarrow.parquet.ParquetWriter(path, SCHEMA, compression="zstd")
        self._waiting: list[Row] = []
        self._waiting_bytes = 0

    def write(self, row: Row) -> None:
        """Add one row."""
        self._waiting.append(row)
        self._waiting_bytes += sum(len(turn["content"]) for turn in row.messages or []) + len(row.text or "")
        if len(self._waiting) >= _ROWS_PER_GROUP or self._waiting_bytes >= _BYTES_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        rows = self._waiting
        columns = [
            _strings([row.id for row in rows]),
            _conversations([row.messages for row in rows]),
            _strings([row.text for row in rows]),
            _strings([row.origin for row in rows]),
        ]
        self._writer.write_table(pyarrow.Table.from_arrays(columns, schema=SCHEMA))
        self._waiting, self._waiting_bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._waiting:
            self._flush()
        self._writer.close()


# pyarrow.array() would do for both, but its first call imports pandas, which takes longer than all else here.
def _strings(values: list[str | None] | list[str]) -> pyarrow.StringArray:
    builder = pyarrow.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def _conversations(rows: list[list[Message] | None]) -> pyarrow.ListArray:
    turns = [turn for messages in rows for turn in messages or []]
    fields = [_strings([turn[name] for turn in turns]) for name in ("role", "content")]
    ends = array("i", accumulate((len(messages or []) for messages in rows), initial=0))
    present = sum(1 << number for number, messages in enumerate(rows) if messages is not None)
    return pyarrow.ListArray.from_buffers(
        pyarrow.list_(_TURN),
        len(rows),
        [pyarrow.py_buffer(present.to_bytes(len(rows) // 8 + 1, "little")), pyarrow.py_buffer(ends)],
        children=[pyarrow.StructArray.from_arrays(fields, fields=list(_TURN))],
    )


def read_rows(parquet: Path) -> list[Row]:
    """Read a prepared dataset's rows, sorted by id, so that what is done with them depends on content alone.

    Raises:
        DatasetError: the file is missing or was not written by `prepare_dataset`.
    """
    try:
        with pyarrow.parquet.ParquetFile(parquet) as file:
            table = file.read()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DatasetError(f"cannot read {str(parquet)!r}: {error}; run prepare_dataset again") from error
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise DatasetError(
            f"{str(parquet)!r} has no column {', '.join(missing)}; it holds {table.column_names}. "
            "Give the folder that prepare_dataset wrote."
        )
    rows = [Row(**record) for record in table.select(SCHEMA.names).to_pylist()]
    return sorted(rows, key=lambda row: row.id)
