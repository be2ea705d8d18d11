"""Sends each good row where it belongs, and keeps count."""

import heapq
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow.parquet

from components.prepare_dataset.lengths import LengthMeter, Side
from components.prepare_dataset.report import Duplicate, RowCounts, Sample
from components.prepare_dataset.split import Fingerprint, Splitter
from components.shared.errors import DatasetError
from components.shared.rows import Row, RowWriter

_KEPT = 20
_SAMPLES = 5


class DatasetWriter:
    """Writes train.parquet and eval.parquet."""

    def __init__(self, folder: Path, eval_fraction: float, count_tokens: Callable[[list[str]], list[int]]) -> None:
        self._paths = {"train": folder / "train.parquet", "eval": folder / "eval.parquet"}
        self._files = ExitStack()
        self._writers = {side: self._files.enter_context(RowWriter(path)) for side, path in self._paths.items()}
        self._splitter = Splitter(eval_fraction)
        self._duplicates: list[tuple[str, str]] = []
        self._samples: dict[str, list[tuple[int, Row]]] = {"train": [], "eval": []}
        self.fingerprint = Fingerprint()
        self.lengths = LengthMeter(count_tokens)
        self.counts = RowCounts()
        self.overlap: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)

    def add(self, row: Row, group: str, side: Side | None) -> None:
        """Take in a good row; `side` where its source is for one side only."""
        self.counts.read += 1
        fate = self._splitter.decide(row, group, side)
        if fate == "duplicate":
            self.counts.duplicates += 1
            if len(self._duplicates) < _KEPT:
                self._duplicates.append((row.origin, row.id))
        elif fate == "overlap":
            self.counts.overlap += 1
            if len(self.overlap) < _KEPT:
                self.overlap.append(row.origin)
        else:
            self._keep(fate, row)

    def _keep(self, side: Side, row: Row) -> None:
        setattr(self.counts, side, getattr(self.counts, side) + 1)
        self._writers[side].write(row)
        self.fingerprint.add(side, row.id)
        self.lengths.add(side, row)
        # The smallest ids: as good as a random choice, and the same whatever the order of the rows.
        samples = self._samples[side]
        entry = (-int(row.id, 16), row)
        if len(samples) < _SAMPLES:
            heapq.heappush(samples, entry)
        elif entry[0] > samples[0][0]:
            heapq.heapreplace(samples, entry)

    def samples(self) -> dict[str, list[Sample]]:
        """A few rows of each side."""
        return {side: [Sample.of(row) for _, row in sorted(kept, reverse=True)] for side, kept in self._samples.items()}

    def duplicates(self) -> list[Duplicate]:
        """The first duplicates, each with the place of the row that it repeats. The files must be closed."""
        wanted = {row_id for _, row_id in self._duplicates}
        first: dict[str, str] = {}
        for path in self._paths.values() if wanted else ():
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(columns=["id", "origin"]):
                    ids, origins = batch.column("id").to_pylist(), batch.column("origin").to_pylist()
                    first |= {row_id: origin for row_id, origin in zip(ids, origins, strict=True) if row_id in wanted}
        return [Duplicate(origin=origin, first=first[row_id]) for origin, row_id in self._duplicates]

    def check_sides(self, has_eval_source: bool, eval_fraction: float) -> None:
        """Raise where one side of the split is empty.

        Raises:
            DatasetError: says what to change.
        """
        counts = self.counts
        if counts.train and counts.eval:
            return
        dropped = f"{counts.read} good rows, of them {counts.duplicates} duplicates and {counts.overlap} overlapping"
        if not counts.train and has_eval_source:
            remedy = "every row of data.source is in data.eval_source too; name other rows to train on"
        elif not counts.train:
            remedy = f"lower data.eval_fraction, which is {eval_fraction}, or add rows with other prompts"
        else:
            remedy = (
                f"raise data.eval_fraction, which is {eval_fraction}, add rows with other prompts, or name rows to "
                "evaluate on with data.eval_source"
            )
        raise DatasetError(f"no row is left to {'evaluate' if counts.train else 'train'} on ({dropped}): {remedy}")
