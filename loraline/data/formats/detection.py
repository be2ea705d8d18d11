"""Detect the format of a source's rows from its columns, and convert its records."""

from dataclasses import dataclass

from loraline.artifacts.dataset import RowProblem
from loraline.data.formats.row_formats import ROW_FORMATS, RowContent, RowFormat
from loraline.data.reading.records import SourceRecord
from loraline.data.source_config import Columns
from loraline.data.validation.fields import FieldReader
from loraline.errors import DatasetError


@dataclass(frozen=True)
class DetectedFormat:
    """The format of a source's rows, and the columns that it is in."""

    row_format: RowFormat
    columns: dict[str, str]
    """The source's column by its name in `loraline.data.config.Columns`."""


def detect_format(present: list[str], configured: Columns, source: str, setting: str = "source") -> DetectedFormat:
    """Detect the format from the columns of a source; those that the recipe names take precedence.

    Raises:
        DatasetError: a configured column does not exist, or the columns fit no format.
    """
    named = {part: column for part, column in configured.model_dump().items() if column}
    unknown = {part: column for part, column in named.items() if column not in present}
    if unknown:
        which = ", ".join(f"data.columns.{part} = {column!r}" for part, column in unknown.items())
        raise DatasetError(f"{which}: {source!r} has no such column; its columns are {present}")
    for row_format in ROW_FORMATS:
        parts = (*row_format.required, *row_format.optional)
        if not set(named) <= set(parts):
            continue
        columns = {part: named.get(part, part) for part in parts}
        columns = {part: column for part, column in columns.items() if column in present}
        if all(part in columns for part in row_format.required):
            return DetectedFormat(row_format, columns)
    known = "; ".join(" + ".join(row_format.required) for row_format in ROW_FORMATS)
    raise DatasetError(
        f"the columns of {source!r} are {present}, which fit none of the known row formats ({known}). Name the columns "
        "to use, for instance data.columns.prompt=question data.columns.completion=answer"
    )


def convert_record(record: SourceRecord, detected: DetectedFormat) -> RowContent | list[RowProblem]:
    """Validate a record and return its content, or all of its problems."""
    fields = FieldReader(record, detected.columns)
    content = detected.row_format.convert(fields)
    return fields.problems or content
