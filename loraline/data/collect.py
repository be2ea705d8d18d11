"""The first time through the rows: read, checked, cleaned, screened, deduplicated, split and written."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice

from loraline import progress
from loraline.artifacts.dataset import SourceReport
from loraline.artifacts.dataset_files import RowSet
from loraline.data.chunk import Chunker
from loraline.data.config import DataConfig
from loraline.data.reading.bad_rows import BadRows
from loraline.data.reading.formats import Content, content_of, find_layout
from loraline.data.reading.readers import Outcome
from loraline.data.reading.records import Problem, Record
from loraline.data.reading.source_rows import Source, find_source
from loraline.data.screen import Screen
from loraline.data.writer import DatasetWriter
from loraline.errors import DatasetError

_ROWS_THAT_TELL_THE_SHAPE = 100


def collect(
    config: DataConfig,
    chunker: Chunker,
    screen: Screen,
    dataset: DatasetWriter,
    bad: BadRows,
    evaluation_only: bool = False,
) -> list[SourceReport]:
    """Take in the rows of all sources, and describe these: the source first.

    Args:
        config: where rows come from.
        chunker: cuts plain text.
        screen: screens each row.
        dataset: takes the good rows.
        bad: takes the bad rows.
        evaluation_only: all rows of the source are for evaluation, and there is no other source.

    Raises:
        DatasetError: a source cannot be read, more rows are bad than allowed, or a side is left empty.
        StorageError: the object store is away or refuses.
    """
    # Rows to evaluate on come first, so that rows to train on can be checked against all of them; and general rows
    # last, to be checked against all that is trained on.
    source_part: RowSet | None = "eval" if evaluation_only else "train" if config.eval_source else None
    parts: list[tuple[Source, RowSet | None]] = [(find_source(config, chunker), source_part)]
    if config.eval_source and not evaluation_only:
        parts.insert(0, (find_source(config, chunker, "eval_source"), "eval"))
    if config.general_source and not evaluation_only:
        parts.append((find_source(config, chunker, "general_source"), "general"))
    total, done = sum(source.size or 0 for source, _ in parts), 0
    described: dict[RowSet | None, SourceReport] = {}
    for source, part in parts:
        bad_before = bad.rows
        described[part] = _take(source, part, config, screen, dataset, bad, partial(_tell, done, total))
        done += source.size or 0
        if part == "general":
            dataset.general.bad = bad.rows - bad_before
            dataset.general.read += dataset.general.bad
    good = dataset.counts.read + dataset.general.read - dataset.general.bad
    bad.check(good + bad.rows, config.max_bad_fraction)
    if not evaluation_only:
        dataset.check_sides(bool(config.eval_source), config.eval_fraction)
    order: tuple[RowSet | None, ...] = (None, "train", "eval", "general")
    return [described[part] for part in order if part in described]


def _take(
    source: Source,
    part: RowSet | None,
    config: DataConfig,
    screen: Screen,
    dataset: DatasetWriter,
    bad: BadRows,
    watch: Callable[[int], None],
) -> SourceReport:
    """Take in all rows of one source; `part` where they are for one part only."""
    bad_before = bad.rows
    outcomes = source.read(watch)
    head = _first_with_a_record(outcomes, bad)
    if not head:
        if bad.rows == bad_before:
            raise DatasetError(f"{source.name!r} holds no rows")
        return SourceReport(name=source.name, bytes=source.size, shape="", columns={})
    present = dict.fromkeys(column for record in head if isinstance(record, Record) for column in record.fields)
    layout = find_layout(list(present), config.columns, source.name)
    for outcome in chain(head, outcomes):
        if isinstance(outcome, Problem):
            bad.add([outcome])
            continue
        content = content_of(outcome, layout)
        if isinstance(content, Content):
            dataset.add(screen.row(content, outcome.place), outcome.group, part)
        else:
            bad.add(content)
    return SourceReport(name=source.name, bytes=source.size, shape=layout.shape, columns=layout.columns)


def _first_with_a_record(outcomes: Iterator[Outcome], bad: BadRows) -> list[Outcome]:
    """The first batch of outcomes that holds a record, empty where there is none; bad rows before it are listed."""
    while head := list(islice(outcomes, _ROWS_THAT_TELL_THE_SHAPE)):
        if any(isinstance(outcome, Record) for outcome in head):
            break
        for outcome in head:
            assert isinstance(outcome, Problem)
            bad.add([outcome])
    return head


def _tell(before: int, total: int, done: int) -> None:
    """Tell how far the sources are read, all in bytes."""
    progress.advance(math.ceil((before + done) / 1000), math.ceil(total / 1000), "kB")
