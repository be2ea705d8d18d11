"""The rows as they lie in a parquet file, by their number there: read again, picked, or left out."""

import os
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from loraline.artifacts.dataset_files import Message
from loraline.data.rows import SCHEMA, Row

_ROWS_AT_ONCE = 256


def stored_rows(path: Path) -> Iterator[Row]:
    """All rows, in order, a few in memory at a time."""
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            ids, texts, origins = (batch.column(name).to_pylist() for name in ("id", "text", "origin"))
            yield from map(Row, ids, _conversations(batch.column("messages")), texts, origins)


def _conversations(column: pyarrow.ListArray) -> list[list[Message] | None]:
    """What column.to_pylist() gives, in a third of the time."""
    turns = column.flatten()
    roles, contents = (turns.field(name).to_pylist() for name in ("role", "content"))
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
    ends = list(accumulate(length or 0 for length in column.value_lengths().to_pylist()))
    present = column.is_valid().to_pylist()
    return [messages[start:end] if here else None for start, end, here in zip([0, *ends], ends, present, strict=False)]


def pick_rows(path: Path, numbers: Iterable[int]) -> dict[int, Row]:
    """The rows of these numbers, from 0; parts of the file that hold none of them are not read."""
    wanted = sorted(set(numbers))
    picked: dict[int, Row] = {}
    with pyarrow.parquet.ParquetFile(path) as file:
        first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            here = [number for number in wanted if first <= number < first + rows]
            if here:
                table = file.read_row_group(group, columns=SCHEMA.names)
                for number in here:
                    (record,) = table.slice(number - first, 1).to_pylist()
                    picked[number] = Row(**record)
            first += rows
    return picked


def row_ids(path: Path, numbers: Iterable[int]) -> list[str]:
    """The ids of the rows of these numbers, sorted."""
    wanted = set(numbers)
    found: list[str] = []
    first = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["id"]) if wanted else ():
            here = [number - first for number in wanted if first <= number < first + batch.num_rows]
            found += [batch.column(0)[number].as_py() for number in here]
            first += batch.num_rows
    return sorted(found)


def keep_rows(path: Path, kept: NDArray[np.bool_]) -> None:
    """Rewrite a file with the rows that are kept, (rows,)."""
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
