"""The rows of a prepared dataset, and their parquet files."""

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from loraline.artifacts.dataset_files import Message, Tool
from loraline.errors import DatasetError

# `extra` has the rare keys of a turn as a JSON object, such as tool calls and reasoning; null where it has none.
_TURN = pyarrow.struct([(name, pyarrow.string()) for name in ("role", "content", "extra")])
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("messages", pyarrow.list_(_TURN)),
        ("text", pyarrow.string()),
        ("origin", pyarrow.string()),
        ("tools", pyarrow.string()),
        ("copies", pyarrow.int32()),
    ]
)
_EXTRA_KEYS = sorted(Message.__annotations__.keys() - {"role", "content"})
_ROWS_PER_GROUP = 1024
_BYTES_PER_GROUP = 4 << 20  # a row group is held in memory until it is written
_ROWS_PER_BATCH = 256


@dataclass(frozen=True)
class Row:
    """A conversation or a plain text. Exactly one of `messages` and `text` is set."""

    id: str
    """Hash of the content alone, 32 hexadecimal digits."""
    messages: list[Message] | None
    text: str | None
    origin: str
    """Where the row was read: `file:line`."""
    tools: list[Tool] | None = None
    """The tools that a conversation's assistant may call."""
    copies: int = 1
    """How often it is trained on in an epoch."""

    @classmethod
    def of(
        cls,
        messages: list[Message] | None = None,
        text: str | None = None,
        origin: str = "",
        tools: list[Tool] | None = None,
    ) -> Self:
        """Make a row, with the id of its content."""
        return cls(content_hash(messages, text, tools), messages, text, origin, tools)

    @property
    def id_hash(self) -> int:
        """The first 64 bits of the id."""
        return int(self.id[:16], 16)


def content_hash(messages: list[Message] | None, text: str | None, tools: list[Tool] | None = None) -> str:
    """Hash the content of a row: 32 hexadecimal digits of SHA-256."""
    turns = None if messages is None else [_turn_values(turn) for turn in messages]
    content = json.dumps([turns, text, tools] if tools else [turns, text], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _turn_values(turn: Message) -> list[str | None]:
    extra = _extra(turn)
    return [turn["role"], turn["content"]] if extra is None else [turn["role"], turn["content"], extra]


def _extra(turn: Message) -> str | None:
    """The keys of a turn beside role and content as JSON, in a fixed order; None where there are none."""
    if len(turn) == 2:
        return None
    extra = {key: turn[key] for key in _EXTRA_KEYS if key in turn}  # type: ignore[literal-required]
    return json.dumps(extra, ensure_ascii=False, separators=(",", ":")) if extra else None


class RowWriter:
    """Writes rows into a parquet file row group by row group, so that memory does not grow with their number."""

    def __init__(self, path: Path) -> None:
        self._writer = pyarrow.parquet.ParquetWriter(path, SCHEMA, compression="zstd")
        self._pending: list[Row] = []
        self._pending_bytes = 0

    def write(self, row: Row) -> None:
        """Write a row."""
        self._pending.append(row)
        self._pending_bytes += _size(row)
        if len(self._pending) >= _ROWS_PER_GROUP or self._pending_bytes >= _BYTES_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        rows = self._pending
        columns = [
            _string_array([row.id for row in rows]),
            _message_array([row.messages for row in rows]),
            _string_array([row.text for row in rows]),
            _string_array([row.origin for row in rows]),
            _string_array([_tools_json(row) for row in rows]),
            _int_array([row.copies for row in rows]),
        ]
        self._writer.write_table(pyarrow.Table.from_arrays(columns, schema=SCHEMA))
        self._pending, self._pending_bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._pending:
            self._flush()
        self._writer.close()


def _size(row: Row) -> int:
    """Characters of a row, about."""
    size = len(row.text or "") + len(_tools_json(row) or "")
    for turn in row.messages or ():
        size += len(turn["content"] or "") + (0 if len(turn) == 2 else len(_extra(turn) or ""))
    return size


def _tools_json(row: Row) -> str | None:
    return json.dumps(row.tools, ensure_ascii=False) if row.tools else None


# pyarrow.array() does the same as these two, but its first call imports pandas, which is slow.
def _string_array(values: Sequence[str | None]) -> pyarrow.StringArray:
    builder = pyarrow.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def _int_array(values: Sequence[int]) -> pyarrow.Int32Array:
    return pyarrow.Int32Array.from_buffers(pyarrow.int32(), len(values), [None, pyarrow.py_buffer(array("i", values))])


def _message_array(rows: list[list[Message] | None]) -> pyarrow.ListArray:
    turns = [turn for messages in rows for turn in messages or []]
    fields = [
        _string_array([turn["role"] for turn in turns]),
        _string_array([turn["content"] for turn in turns]),
        _string_array([_extra(turn) for turn in turns]),
    ]
    ends = array("i", accumulate((len(messages or []) for messages in rows), initial=0))
    present = sum(1 << number for number, messages in enumerate(rows) if messages is not None)
    return pyarrow.ListArray.from_buffers(
        pyarrow.list_(_TURN),
        len(rows),
        [pyarrow.py_buffer(present.to_bytes(len(rows) // 8 + 1, "little")), pyarrow.py_buffer(ends)],
        children=[pyarrow.StructArray.from_arrays(fields, fields=list(_TURN))],
    )


def read_rows(parquet: Path) -> list[Row]:
    """Read all rows of a parquet file, sorted by id, so that their order depends on their content alone.

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
            f"{str(parquet)!r} has no column {', '.join(missing)}; its columns are {table.column_names}. "
            "Give the folder that prepare_dataset wrote."
        )
    rows = [row for batch in table.to_batches() for row in _rows(batch)]
    return sorted(rows, key=lambda row: row.id)


def stream_rows(path: Path) -> Iterator[Row]:
    """Yield all rows of a parquet file in file order, few in memory at a time."""
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS_PER_BATCH):
            yield from _rows(batch)


def stream_origins(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the id and origin of all rows of a parquet file, in file order."""
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["id", "origin"]):
            yield from zip(batch.column("id").to_pylist(), batch.column("origin").to_pylist(), strict=True)


def _rows(batch: pyarrow.RecordBatch) -> Iterator[Row]:
    ids, texts, origins, tools = (batch.column(name).to_pylist() for name in ("id", "text", "origin", "tools"))
    parsed = [one if one is None else json.loads(one) for one in tools]
    copies = batch.column("copies").to_pylist()
    return map(Row, ids, _message_lists(batch.column("messages")), texts, origins, parsed, copies)


def _message_lists(column: pyarrow.ListArray) -> list[list[Message] | None]:
    """The same as column.to_pylist(), in a third of the time."""
    turns = column.flatten()
    roles, contents = (turns.field(name).to_pylist() for name in ("role", "content"))
    messages: list[Message] = [
        {"role": role, "content": content} for role, content in zip(roles, contents, strict=True)
    ]
    extras = turns.field("extra")
    if extras.null_count < len(extras):
        for message, extra in zip(messages, extras.to_pylist(), strict=True):
            if extra is not None:
                message.update(json.loads(extra))
    ends = list(accumulate(length or 0 for length in column.value_lengths().to_pylist()))
    present = column.is_valid().to_pylist()
    return [messages[start:end] if here else None for start, end, here in zip([0, *ends], ends, present, strict=False)]


def read_rows_at(path: Path, numbers: Iterable[int]) -> dict[int, Row]:
    """Read the rows with these numbers (from 0, in file order); row groups without any are not read."""
    wanted = sorted(set(numbers))
    found: dict[int, Row] = {}
    with pyarrow.parquet.ParquetFile(path) as file:
        first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            here = [number for number in wanted if first <= number < first + rows]
            if here:
                table = file.read_row_group(group, columns=SCHEMA.names)
                for number in here:
                    (batch,) = table.slice(number - first, 1).to_batches()
                    found[number] = next(_rows(batch))
            first += rows
    return found


def read_ids_at(path: Path, numbers: Iterable[int]) -> list[str]:
    """Read the ids of the rows with these numbers (from 0, in file order); sorted."""
    wanted = set(numbers)
    found: list[str] = []
    first = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["id"]) if wanted else ():
            here = [number - first for number in wanted if first <= number < first + batch.num_rows]
            found += [batch.column(0)[number].as_py() for number in here]
            first += batch.num_rows
    return sorted(found)


def filter_rows(path: Path, kept: NDArray[np.bool_]) -> None:
    """Rewrite a parquet file with the rows that `kept`, (rows,) in file order, is true for."""
    rewritten = path.with_name(f"{path.name}.new")
    first = 0
    with (
        pyarrow.parquet.ParquetFile(path) as file,
        pyarrow.parquet.ParquetWriter(rewritten, SCHEMA, compression="zstd") as writer,
    ):
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=SCHEMA.names)
            bits = np.packbits(kept[first : first + table.num_rows], bitorder="little")
            mask = pyarrow.BooleanArray.from_buffers(pyarrow.bool_(), table.num_rows, [None, pyarrow.py_buffer(bits)])
            writer.write_table(table.filter(mask))
            first += table.num_rows
    os.replace(rewritten, path)
