"""The first pass over the rows: read, validate, chunk, screen, deduplicate, split and write them."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from loraline import progress
from loraline.artifacts.dataset import RowProblem, SourceReport
from loraline.artifacts.dataset_files import RowSet
from loraline.data.config import DataConfig
from loraline.data.dataset_writer import DatasetWriter
from loraline.data.formats.detection import DetectedFormat, convert_record, detect_format
from loraline.data.formats.proposals import propose_columns
from loraline.data.formats.row_content import RowContent
from loraline.data.formats.row_formats import PLAIN_TEXT
from loraline.data.reading.chunker import Chunker
from loraline.data.reading.dataset_source import DatasetSource, find_source
from loraline.data.reading.records import ReadResult, SourceRecord
from loraline.data.row_screening import RowScreener
from loraline.data.rows import Row
from loraline.data.source_config import SourceRequest
from loraline.data.template_check import NOT_SHOWN, ShapeFinding, TemplateCheck
from loraline.data.validation.bad_rows import BadRowLog
from loraline.data.validation.notes import NoteLog
from loraline.errors import ConfigurationError, DatasetError

_RECORDS_FOR_DETECTION = 100
_TEXTS_PER_BATCH, _CHARACTERS_PER_BATCH = 512, 1 << 20  # plain texts whose tokens are counted together


@dataclass
class _OpenSource:
    """A source whose row format is known."""

    request: SourceRequest
    source: DatasetSource
    row_set: RowSet | None
    """The set that its rows go to; None: train or eval, by the hash of the prompt."""
    results: Iterator[ReadResult]
    detected: DetectedFormat | None
    """None where it has no valid record."""
    bad_rows: int
    """Bad rows so far."""
    present: list[str]
    """The columns of its first records."""
    rows: int = 0
    """Valid rows so far."""


@dataclass(frozen=True)
class Ingested:
    """What was read of a source."""

    report: SourceReport
    row_set: RowSet | None
    bad_rows: int


class _ByteProgress:
    """Reports how much of all sources has been read."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._read: dict[int, int] = {}

    def update(self, source: int, bytes_read: int) -> None:
        """Set the number of bytes that have been read of a source."""
        self._read[source] = bytes_read
        progress.advance(math.ceil(sum(self._read.values()) / 1000), math.ceil(self._total / 1000), "kB")


def sources_to_prepare(config: DataConfig) -> list[tuple[SourceRequest, RowSet | None]]:
    """The recipe's sources in the order in which they are read, each with the set that its rows go to.

    None stands for train or eval, by the hash of the prompt. Eval rows come first, so that each row to train on can be
    compared with all of them, and general rows last, to be compared with all rows to train on.
    """
    order: list[tuple[str, RowSet | None]] = [
        ("eval_source", "eval"),
        ("source", "train" if config.eval_source else None),
        ("general_source", "general"),
    ]
    requests = config.requests()
    return [(request, row_set) for field, row_set in order for request in requests[field]]


def ingest(
    config: DataConfig,
    sources: list[tuple[SourceRequest, RowSet | None]],
    chunker: Chunker,
    screener: RowScreener,
    dataset: DatasetWriter,
    bad: BadRowLog,
    notes: NoteLog,
    template: TemplateCheck,
) -> list[Ingested]:
    """Write the rows of sources into a dataset.

    Args:
        config: how they are read.
        sources: the sources, in order, each with the set that its rows go to; None: by the hash of the prompt.
        chunker: cuts plain text that is longer than `data.chunk_tokens`.
        screener: screens each row.
        dataset: where valid rows are written.
        bad: where bad rows are logged.
        notes: counts what is changed or left out of valid rows.
        template: checks that the model's chat template shows all of a row; one that it does not is bad.

    Raises:
        ConfigurationError: a setting has no effect on these sources.
        DatasetError: a source cannot be read, or more rows are bad than allowed.
        StorageError: the object store cannot be reached or refuses access.
    """
    found = [(request, find_source(request, chunker), row_set) for request, row_set in sources]
    watch = _ByteProgress(sum(source.size or 0 for _, source, _ in found))
    # All formats are detected before the rows are read, so that a mistake in the recipe fails at once.
    opened = [_open(*one, bad, partial(watch.update, number)) for number, one in enumerate(found)]
    _check_chunk_settings(config, opened)
    for one in opened:
        bad_before = bad.rows
        rows = _valid_rows(one, bad, notes, dataset)
        for content, record, group in _chunk_long_texts(one, rows, chunker):
            row = screener.screen(content, record.origin)
            if isinstance(row, Row) and not _is_shown(template.check(row), record, bad, notes):
                continue
            if dataset.add(row, group, one.row_set, one.request.weight) == "left_out":
                notes.add(f"weight {one.request.weight:g} of {one.request.name}", record.origin, left_out=True)
            one.rows += 1
        one.bad_rows += bad.rows - bad_before
    bad.check(dataset.rows_added + bad.rows, config.max_bad_fraction)
    return [Ingested(_report(one), one.row_set, one.bad_rows) for one in opened]


def _is_shown(found: ShapeFinding, record: SourceRecord, bad: BadRowLog, notes: NoteLog) -> bool:
    """Log what the chat template makes of a row; False where it does not show all of it."""
    for note in found.notes:
        notes.add(note, record.origin)
    if found.problem:
        bad.add([RowProblem(file=record.file, line=record.line, kind=NOT_SHOWN, reason=found.problem)])
    return not found.problem


def _open(
    request: SourceRequest,
    source: DatasetSource,
    row_set: RowSet | None,
    bad: BadRowLog,
    on_bytes_read: Callable[[int], None],
) -> _OpenSource:
    """Read the first records of a source and detect its row format; bad rows before the first record are logged."""
    results = source.read(on_bytes_read)
    bad_before = bad.rows
    while head := list(islice(results, _RECORDS_FOR_DETECTION)):
        records = [result for result in head if isinstance(result, SourceRecord)]
        if records:
            columns = dict.fromkeys(column for record in records for column in record.fields)
            detected = _detect(request, list(columns), records)
            everything = chain(head, results)
            gather = detected.row_format.gather
            opened = gather(everything) if gather else everything
            return _OpenSource(request, source, row_set, opened, detected, bad.rows - bad_before, list(columns))
        for result in head:
            assert isinstance(result, RowProblem)
            bad.add([result])
    if bad.rows == bad_before:
        raise DatasetError(f"{source.name!r} has no rows")
    return _OpenSource(request, source, row_set, iter(()), None, bad.rows - bad_before, [])


def _detect(request: SourceRequest, columns: list[str], records: list[SourceRecord]) -> DetectedFormat:
    """Detect the format of a source's rows, or say which setting would make them readable."""
    try:
        return detect_format(columns, request.columns, request.name)
    except DatasetError as error:
        raise DatasetError(f"{error}.{propose_columns(records, request)}") from error


def _check_chunk_settings(config: DataConfig, opened: list[_OpenSource]) -> None:
    """Refuse chunk settings where no source is plain text."""
    formats = [one.detected.row_format for one in opened if one.detected]
    if not formats or PLAIN_TEXT in formats:
        return
    defaults = DataConfig.model_fields
    for field in ("chunk_tokens", "chunk_overlap"):
        if getattr(config, field) != defaults[field].default:
            names = ", ".join(f"{one.source.name!r} ({one.detected.row_format.name})" for one in opened if one.detected)
            raise ConfigurationError(
                f"data.{field} = {getattr(config, field)} has no effect: only plain text is cut into chunks, and the "
                f"rows of {names} are conversations. Remove the setting, or name a column of plain text in "
                "data.columns.text"
            )


def _valid_rows(
    opened: _OpenSource, bad: BadRowLog, notes: NoteLog, dataset: DatasetWriter
) -> Iterator[tuple[RowContent, SourceRecord, str]]:
    """Yield the content of each valid row with the record that it comes from and its group; log the others."""
    for result in opened.results:
        if isinstance(result, RowProblem):
            bad.add([result])
            continue
        assert opened.detected is not None
        converted = convert_record(result, opened.detected)
        if converted.problems:
            bad.add(converted.problems)
            continue
        if converted.left_out:
            notes.add(converted.left_out, result.origin, left_out=True)
            dataset.leave_out(opened.row_set)
        for kind in converted.notes:
            notes.add(kind, result.origin)
        for content in converted.contents:
            yield content, result, converted.group


def _chunk_long_texts(
    opened: _OpenSource, rows: Iterator[tuple[RowContent, SourceRecord, str]], chunker: Chunker
) -> Iterator[tuple[RowContent, SourceRecord, str]]:
    """Yield each row with its group; of a long plain text, its chunks."""
    if opened.detected is None or opened.detected.row_format is not PLAIN_TEXT:
        yield from rows
        return
    for batch in _batches(rows):
        # What has a group was read from a text file, in chunks.
        texts = ["" if record.group else content.text or "" for content, record, _ in batch]
        for (content, record, group), chunks in zip(batch, chunker.chunk_long(texts), strict=True):
            if not chunks:
                yield content, record, group
            for chunk in chunks:
                yield RowContent(text=chunk.text), record, chunk.group


def _batches(
    rows: Iterable[tuple[RowContent, SourceRecord, str]],
) -> Iterator[list[tuple[RowContent, SourceRecord, str]]]:
    batch: list[tuple[RowContent, SourceRecord, str]] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row[0].text or "")
        if len(batch) >= _TEXTS_PER_BATCH or characters >= _CHARACTERS_PER_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _report(opened: _OpenSource) -> SourceReport:
    detected = opened.detected
    return SourceReport(
        name=opened.source.name,
        bytes=opened.source.size,
        row_format=detected.row_format.name if detected else "",
        columns=detected.columns if detected else {},
        unused_columns=[column for column in opened.present if column not in detected.columns.values()]
        if detected
        else [],
        rows=opened.rows,
        weight=opened.request.weight,
    )
