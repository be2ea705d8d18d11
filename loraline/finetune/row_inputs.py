"""Rows that are in memory, as a file that everything else reads as a data source."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from loraline.data.source_config import DataSource
from loraline.errors import DatasetError

Rows = str | os.PathLike[str] | DataSource | Iterable[Any]
"""A path or address; one or several `DataSource`; or rows: mappings, texts or conversations, a datasets.Dataset, a
pandas DataFrame."""


def as_source(rows: Rows, folder: Path) -> str | tuple[DataSource, ...]:
    """Give rows as a data source: addresses as they are, rows in memory as a JSON Lines file named after its content.

    Args:
        rows: an address; or rows, each a mapping of columns, a text, or a conversation (a list of messages).
        folder: where the file is written.

    Raises:
        DatasetError: there are no rows, or one is nothing that can be trained on.
    """
    if isinstance(rows, str | os.PathLike):
        return os.fspath(rows)
    if isinstance(rows, DataSource):
        return (rows,)
    if isinstance(rows, list | tuple) and rows and all(isinstance(one, DataSource) for one in rows):
        return tuple(rows)
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".jsonl", delete=False) as file:
        unnamed = Path(file.name)
        try:
            for line in _lines(_records(rows)):
                digest.update(line)
                file.write(line)
        except BaseException:
            unnamed.unlink()
            raise
    named = folder / f"rows-{digest.hexdigest()[:12]}.jsonl"
    unnamed.replace(named)
    return str(named)


def _records(rows: Any) -> Iterable[Any]:
    if isinstance(rows, Mapping):
        raise DatasetError(
            f"the rows are a {type(rows).__name__} with {', '.join(map(repr, list(rows)[:5]))}; give one split of it "
            "(rows['train']), or a list with a mapping for each row"
        )
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a DataFrame, whose missing values are NaN
        return rows.astype(object).where(rows.notna(), None).to_dict(orient="records")
    if not isinstance(rows, Iterable):
        raise DatasetError(f"the rows are of type {type(rows).__name__}; give a path, an address or a list of rows")
    return rows


def _lines(records: Iterable[Any]) -> Iterator[bytes]:
    number = 0
    for number, record in enumerate(records, 1):
        fields = _fields(record)
        if fields is None:
            raise DatasetError(
                f"row {number} is of type {type(record).__name__}; a row is a mapping of columns such as "
                "{'prompt': ..., 'completion': ...}, a text, or a list of messages {'role': ..., 'content': ...}"
            )
        try:
            yield (json.dumps(fields, default=_plain) + "\n").encode("ascii")
        except (TypeError, ValueError) as error:
            raise DatasetError(f"row {number} cannot be written as JSON: {error}") from error
    if not number:
        raise DatasetError("there are no rows")


def _fields(record: Any) -> Mapping[str, Any] | None:
    if isinstance(record, Mapping):
        return dict(record)
    if isinstance(record, str):
        return {"text": record}
    if isinstance(record, list) and record and all(isinstance(turn, Mapping) for turn in record):
        return {"messages": [dict(turn) for turn in record]}
    return None


def _plain(value: Any) -> Any:
    """What JSON has no type for: numpy's numbers and arrays, dates and the like."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, date | time | Decimal | UUID | os.PathLike):
        return str(value)
    raise TypeError(f"a value is of type {type(value).__name__}")
