"""Detect the format of a source's rows from its columns, and convert its records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loraline.artifacts.dataset import RowProblem
from loraline.data.formats.row_content import RowContent
from loraline.data.formats.row_formats import ROW_FORMATS, RowFormat
from loraline.data.formats.turn_content import MEDIA_COLUMNS, refuse_media
from loraline.data.reading.records import SourceRecord
from loraline.data.source_config import Columns
from loraline.data.validation.fields import FieldReader
from loraline.errors import DatasetError

# Columns of rows that training does not imitate as they are, however much else of them would fit a format.
_PREFERENCES = (
    ("chosen", "rejected"),
    ("chosen_messages", "rejected_messages"),
    ("preferred_output", "non_preferred_output"),
)
_NOT_READ = {
    ("completions", "labels"): "steps that are marked as right or wrong, and training imitates whole answers",
    (
        "input_ids",
        "labels",
    ): "tokens of some tokenizer, and rows are read as text; give the text that they were made of",
    ("segments",): "segments with a label each, and a row is a conversation or a plain text",
}


@dataclass(frozen=True)
class DetectedFormat:
    """The format of a source's rows, and the columns that it is in."""

    row_format: RowFormat
    columns: dict[str, str]
    """The source's column by its name in `loraline.data.source_config.Columns`."""
    label_is_named: bool = False
    """Whether the recipe names the column with the verdict on an answer; else only true and false count as one."""
    has_media: bool = False
    """Whether a column is named as those of images, audio and video are."""


class Converted(NamedTuple):
    """What a record came to."""

    contents: Sequence[RowContent] = ()
    """Its rows, where it has no problem."""
    problems: Sequence[RowProblem] = ()
    left_out: str = ""
    """Why it is left out though it is valid; empty: it is not."""
    notes: tuple[str, ...] = ()
    """What was changed or not read."""
    group: str = ""
    """Rows of one group go to the same split; empty: by the hash of the prompt."""


def detect_format(present: list[str], configured: Columns, source: str) -> DetectedFormat:
    """Detect the format from the columns of a source; those that the recipe names take precedence.

    Raises:
        DatasetError: a configured column does not exist, or the columns fit no format.
    """
    named = {part: column for part, column in configured.model_dump().items() if column}
    unknown = {part: column for part, column in named.items() if column not in present}
    if unknown:
        which = ", ".join(f"data.columns.{part} = {column!r}" for part, column in unknown.items())
        raise DatasetError(f"{which}: {source!r} has no such column; its columns are {present}")
    is_free = not set(named) - {"system", "tools", "label", "history"}
    if is_free and any(set(columns) <= set(present) for columns in _PREFERENCES):
        reason = "pairs of a preferred and a rejected answer, and training imitates one answer; name it"
        raise DatasetError(f"the columns of {source!r} are {present}. Its rows are {reason}")
    has_media = bool(MEDIA_COLUMNS & set(present))
    for row_format in ROW_FORMATS:
        if set(named) <= {*row_format.required, *row_format.optional}:
            found = _find_columns(row_format, named, present)
            if all(part in found for part in row_format.required):
                return DetectedFormat(row_format, found, "label" in named, has_media)
    for columns, reason in _NOT_READ.items():
        if set(columns) <= set(present):
            raise DatasetError(f"the columns of {source!r} are {present}. Its rows are {reason}")
    known = "; ".join(" + ".join(row_format.required) for row_format in ROW_FORMATS)
    raise DatasetError(f"the columns of {source!r} are {present}, which fit none of the known row formats ({known})")


def _find_columns(row_format: RowFormat, named: dict[str, str], present: list[str]) -> dict[str, str]:
    """The column of each part of a format: as named, else under its own name, else under another, in any case."""
    by_name = {column.strip().lower(): column for column in reversed(present)}
    found = dict(named)
    for part in (*row_format.required, *row_format.optional):
        if part in found or part in row_format.only_named:
            continue
        names = (part, *row_format.other_names.get(part, ()))
        free = [by_name[name] for name in names if name in by_name and by_name[name] not in found.values()]
        if free:
            found[part] = free[0]
    return found


def convert_record(record: SourceRecord, detected: DetectedFormat) -> Converted:
    """Validate a record and convert it."""
    fields = FieldReader(record, detected.columns)
    if detected.has_media:
        refuse_media(fields, record.fields)
    if _is_marked_as_bad(fields, detected):
        return Converted(left_out="answers that are marked as bad (label: false)")
    content = detected.row_format.convert(fields)
    if fields.problems:
        return Converted(problems=fields.problems)
    contents = content if isinstance(content, list) else (content,)
    return Converted(() if fields.left_out else contents, (), fields.left_out, fields.notes, fields.group)


def _is_marked_as_bad(fields: FieldReader, detected: DetectedFormat) -> bool:
    """Whether a row's answer is one not to give (KTO): a label of false."""
    column = detected.columns.get("label")
    if not column:
        return False
    value = fields.value(column)
    if detected.label_is_named:
        return str(value).strip().lower() in ("false", "0", "0.0", "no", "bad")
    return value is False or (isinstance(value, str) and value.strip().lower() == "false")
