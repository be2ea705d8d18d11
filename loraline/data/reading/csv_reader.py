"""Read CSV and TSV with a header line."""

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from loraline.artifacts.dataset import RowProblem
from loraline.data.reading.records import ReadResult, SourceRecord
from loraline.data.reading.text_normalization import normalize

_HEADER_BYTES = 1 << 12
_MAX_FIELD_CHARACTERS = 16 << 20  # bounds what an unclosed quote can swallow


def read_csv(stream: BinaryIO, file: str, delimiter: str) -> Iterator[ReadResult]:
    """Read CSV or TSV. A field in double quotes may contain line breaks; CSV may have semicolons as separators."""
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    # Bytes that are not UTF-8 become lone surrogates, which the validation of each field reports.
    if delimiter == "," and isinstance(stream, io.BufferedReader):
        delimiter = _delimiter(stream.peek(_HEADER_BYTES))
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        line = rows.line_num + 1
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield RowProblem(
                file=file, line=line, kind="malformed row", reason=f"quotes or separators do not match: {error}"
            )
            continue
        if not fields:
            continue
        if header:
            yield _record(header, fields, file, line)
            continue
        header = [normalize(field).strip() for field in fields]
        repeated = sorted({column for column in header if header.count(column) > 1})
        if repeated:
            reason = f"the header names a column more than once: {', '.join(repeated)}"
            yield RowProblem(file=file, line=line, kind="malformed header", reason=reason, fatal=True)
            return


def _delimiter(start: bytes) -> str:
    """The separator of a CSV file by its header: a spreadsheet writes semicolons where the comma is in numbers."""
    header = start.partition(b"\n")[0]
    return ";" if b"," not in header and b";" in header else ","


def _record(header: list[str], fields: list[str], file: str, line: int) -> ReadResult:
    if len(fields) == len(header):
        return SourceRecord(file, line, dict(zip(header, fields, strict=True)))
    reason = f"{len(fields)} fields where the header has {len(header)}"
    return RowProblem(file=file, line=line, kind="wrong number of fields", reason=reason)
