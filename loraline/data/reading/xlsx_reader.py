"""Read Excel workbooks (.xlsx) with a header row."""

from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from loraline.artifacts.dataset import RowProblem
from loraline.data.reading.records import ReadResult, SourceRecord


def read_xlsx(path: Path, file: str) -> Iterator[ReadResult]:
    """Read the sheets of a workbook, each with a header row. A record's line is its row in the sheet.

    Numbers and dates become the text that people would type; formulas give the value that was computed last.
    """
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException, KeyError) as error:
        raise OSError(f"not an Excel workbook (.xlsx): {error}") from error
    try:
        sheets = workbook.worksheets
        for sheet in sheets:
            yield from _read_sheet(sheet, file if len(sheets) == 1 else f"{file}:{sheet.title}")
    finally:
        workbook.close()


def _read_sheet(sheet: Any, file: str) -> Iterator[ReadResult]:
    header: list[str] = []
    for line, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        values = [_text(cell) for cell in cells]
        if not any(values):
            continue
        if not header:
            header = [name.strip() for name in values]
            repeated = sorted({name for name in header if name and header.count(name) > 1})
            if repeated:
                reason = f"the header names a column more than once: {', '.join(repeated)}"
                yield RowProblem(file=file, line=line, kind="malformed header", reason=reason, fatal=True)
                return
            continue
        beyond = [value for value in values[len(header) :] if value]
        unnamed = [value for name, value in zip(header, values, strict=False) if value and not name]
        if beyond or unnamed:
            reason = f"a value in a column without a header: {(beyond or unnamed)[0]!r}"
            yield RowProblem(file=file, line=line, kind="wrong number of fields", reason=reason)
            continue
        yield SourceRecord(file, line, {name: value for name, value in zip(header, values, strict=False) if name})


def _text(cell: Any) -> str:
    """A cell as text."""
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat(" ")
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)
