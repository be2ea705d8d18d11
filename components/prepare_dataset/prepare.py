"""Turns a source of rows into train and eval sets that can be trusted."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

from components.prepare_dataset.bad_rows import BadRows
from components.prepare_dataset.chunk import Chunker
from components.prepare_dataset.config import DataConfig
from components.prepare_dataset.lengths import Side, token_counter
from components.prepare_dataset.readers import Outcome
from components.prepare_dataset.records import Problem, Record
from components.prepare_dataset.report import DatasetReport, SourceReport
from components.prepare_dataset.shapes import Content, content_of, find_layout
from components.prepare_dataset.sources import Source, find_source
from components.prepare_dataset.writer import DatasetWriter
from components.shared import progress
from components.shared.errors import DatasetError
from components.shared.model_folder import load_tokenizer
from components.shared.rows import Row

_ROWS_THAT_TELL_THE_SHAPE = 100


def prepare(config: DataConfig, tokenizer_folder: Path, output: Path) -> DatasetReport:
    """Read, check, clean, deduplicate, split and describe the rows of a source.

    Writes train.parquet, eval.parquet, report.json, report.html and bad_rows.jsonl into `output`. Rows stream
    through: memory holds some 30 bytes a row, for the checks of duplicates and leakage, and a few batches.

    Raises:
        DatasetError: a source cannot be read, more rows are bad than allowed, or a side is left empty.
        StorageError: the object store is away or refuses.
    """
    output.mkdir(parents=True, exist_ok=True)
    count_tokens = token_counter(load_tokenizer(tokenizer_folder))
    chunker = Chunker(count_tokens, config.chunk_tokens, config.chunk_overlap)
    source = find_source(config, chunker)
    # Rows to evaluate on come first, so that rows to train on can be checked against all of them.
    sources: list[tuple[Source, Side | None]] = [(source, None)]
    if config.eval_source:
        sources = [(find_source(config, chunker, evaluation=True), "eval"), (source, "train")]

    total, done = sum(source.size or 0 for source, _ in sources), 0
    described = []
    with BadRows(output) as bad, DatasetWriter(output, config.eval_fraction, count_tokens) as dataset:
        for source, side in sources:
            described.append(_take(source, side, config, dataset, bad, partial(_tell, done, total)))
            done += source.size or 0
        rows_read = dataset.counts.read + bad.rows
        bad.check(rows_read, config.max_bad_fraction)
        dataset.check_sides(bool(config.eval_source), config.eval_fraction)

    report = DatasetReport(
        fingerprint=dataset.fingerprint.hexadecimal(),
        sources=described[::-1],
        rows=dataset.counts.model_copy(update={"read": rows_read, "bad": bad.rows}),
        bad_fraction=bad.rows / rows_read,
        bad_kinds=dict(bad.kinds.most_common()),
        bad_rows=bad.first,
        duplicates=dataset.duplicates(),
        overlap=dataset.overlap,
        lengths=dataset.lengths.report(),
        samples=dataset.samples(),
    )
    report.save(output)
    progress.headline(report.headline())
    return report


def _take(
    source: Source,
    side: Side | None,
    config: DataConfig,
    dataset: DatasetWriter,
    bad: BadRows,
    watch: Callable[[int], None],
) -> SourceReport:
    """Take in all rows of one source; `side` where they are for one side only."""
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
            dataset.add(Row.of(content.messages, content.text, outcome.place), outcome.group, side)
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
