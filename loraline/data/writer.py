"""Sends each good row where it belongs, and keeps count."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow.parquet

from loraline.artifacts.dataset import Duplicate, RowCounts
from loraline.artifacts.dataset_files import ROW_FILES, RowSet, Split
from loraline.data.description.excerpts import EXAMPLES
from loraline.data.rows import Row, RowWriter
from loraline.data.screen import Dropped
from loraline.data.similarity.ngrams import Words, WordWriter
from loraline.data.split import HashIndex, Splitter, prompt_key
from loraline.data.stored_rows import stored_rows
from loraline.errors import DatasetError


class DatasetWriter:
    """Writes train.parquet, eval.parquet and, where it is wanted, general.parquet, and takes down their words."""

    def __init__(self, folder: Path, scratch: Path, eval_fraction: float, general: bool) -> None:
        parts: tuple[RowSet, ...] = ("train", "eval", "general") if general else ("train", "eval")
        self.paths = {part: folder / ROW_FILES[part] for part in parts}
        self._files = ExitStack()
        self._writers = {part: self._files.enter_context(RowWriter(path)) for part, path in self.paths.items()}
        self._words = {part: self._files.enter_context(WordWriter(scratch / f"{part}.words")) for part in parts}
        self._splitter = Splitter(eval_fraction)
        self._general = HashIndex()
        self._duplicates: list[tuple[str, str]] = []
        self.counts, self.general = RowCounts(), RowCounts()
        self._overlap: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)

    def add(self, row: Row | Dropped, group: str, part: RowSet | None) -> None:
        """Take in a good row, or what it is dropped for; `part` where its source is for one part only.

        General rows come last, when all that is trained on is known.
        """
        counts = self.general if part == "general" else self.counts
        counts.read += 1
        if isinstance(row, str):
            field = row.replace(" ", "_")
            setattr(counts, field, getattr(counts, field) + 1)
        elif part == "general":
            self._add_general(row)
        else:
            self._add(row, group, part)

    def _add(self, row: Row, group: str, side: Split | None) -> None:
        fate = self._splitter.decide(row, group, side)
        if fate == "duplicate":
            self.counts.duplicates += 1
            if len(self._duplicates) < EXAMPLES:
                self._duplicates.append((row.origin, row.id))
        elif fate == "overlap":
            self.counts.overlap += 1
            if len(self._overlap) < EXAMPLES:
                self._overlap.append((row.origin, prompt_key(row)))
        else:
            setattr(self.counts, fate, getattr(self.counts, fate) + 1)
            self._keep(fate, row)

    def _add_general(self, row: Row) -> None:
        if self._splitter.is_trained_on(row):
            self.general.overlap += 1
        elif not self._general.add(int(row.id[:16], 16)):
            self.general.duplicates += 1
        else:
            self._keep("general", row)

    def _keep(self, part: RowSet, row: Row) -> None:
        self._writers[part].write(row)
        self._words[part].add(row)

    def words(self) -> dict[RowSet, Words]:
        """The words of all rows that were written. The files must be closed."""
        return {part: writer.words() for part, writer in self._words.items()}

    def duplicates(self) -> list[Duplicate]:
        """The first duplicates, each with the place of the row that it repeats. The files must be closed."""
        wanted = {row_id for _, row_id in self._duplicates}
        first: dict[str, str] = {}
        for path in self.paths.values() if wanted else ():
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(columns=["id", "origin"]):
                    ids, origins = batch.column("id").to_pylist(), batch.column("origin").to_pylist()
                    found = {row_id: origin for row_id, origin in zip(ids, origins, strict=True) if row_id in wanted}
                    first = found | first
        return [Duplicate(origin=origin, first=first[row_id]) for origin, row_id in self._duplicates]

    def overlap(self) -> list[Duplicate]:
        """The first rows that eval holds the prompt of, each with the place of such a row. The files must be closed."""
        wanted = {key for _, key in self._overlap}
        first: dict[int, str] = {}
        for row in stored_rows(self.paths["eval"]) if wanted else ():
            key = prompt_key(row)
            if key in wanted:
                first.setdefault(key, row.origin)
        return [Duplicate(origin=origin, first=first[key]) for origin, key in self._overlap]

    def check_sides(self, has_eval_source: bool, eval_fraction: float) -> None:
        """Raise where one side of the split is empty.

        Raises:
            DatasetError: says what to change.
        """
        counts = self.counts
        if counts.train and counts.eval:
            return
        dropped = f"{counts.read} good rows, of them {counts.duplicates} duplicates and {counts.overlap} overlapping"
        if counts.personal_data or counts.policy:
            dropped += f", {counts.personal_data} with personal data and {counts.policy} that the policy drops"
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
