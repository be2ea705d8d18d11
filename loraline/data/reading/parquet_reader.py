"""Read parquet, batch by batch."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from loraline.artifacts.dataset import RowProblem
from loraline.data.reading.records import ReadResult, SourceRecord

_ROWS_PER_BATCH = 128


def read_parquet(path: Path, file: str) -> Iterator[ReadResult]:
    """Read a parquet file. A record's line is its number in the file."""
    number = 0
    with pyarrow.parquet.ParquetFile(path) as parquet:
        for batch in parquet.iter_batches(_ROWS_PER_BATCH):
            for index in range(batch.num_rows):
                number += 1
                yield _record(batch, index, file, number)


def _record(batch: pyarrow.RecordBatch, index: int, file: str, number: int) -> ReadResult:
    fields = {}
    for column in batch.schema.names:
        try:
            fields[column] = batch.column(column)[index].as_py()
        except UnicodeDecodeError as error:
            reason = f"not UTF-8: {error.reason}"
            return RowProblem(file=file, line=number, column=column, kind="invalid UTF-8", reason=reason)
    return SourceRecord(file, number, fields, has_filled_nulls=True)
