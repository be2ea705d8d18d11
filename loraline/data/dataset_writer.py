"""Deduplicate and split rows, and write each into the parquet file of its set."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from loraline.artifacts.dataset import Duplicate
from loraline.artifacts.dataset_files import ROW_FILES, RowSet, Split
from loraline.data.description.excerpts import MAX_EXAMPLES
from loraline.data.row_screening import DropReason
from loraline.data.rows import Row, RowWriter, stream_origins, stream_rows
from loraline.data.similarity.hash_set import HashSet
from loraline.data.similarity.word_hashes import WordHashes, WordHashWriter
from loraline.data.split import SplitDecision, Splitter, prompt_hash
from loraline.errors import DatasetError

RowOutcome = SplitDecision | DropReason | Literal["general", "left_out"]
"""What became of a valid row: the set that it was written to, or why it was dropped."""


class DatasetWriter:
    """Writes train.parquet, eval.parquet and optionally general.parquet, and the word hashes of their rows."""

    def __init__(self, folder: Path, scratch: Path, eval_fraction: float, general: bool) -> None:
        sets: tuple[RowSet, ...] = ("train", "eval", "general") if general else ("train", "eval")
        self.paths = {row_set: folder / ROW_FILES[row_set] for row_set in sets}
        self.outcomes: Counter[RowOutcome] = Counter()
        """Number of rows of the source and the eval source by outcome."""
        self.general_outcomes: Counter[RowOutcome] = Counter()
        """Number of rows of the general source by outcome."""
        self._files = ExitStack()
        self._writers = {row_set: self._files.enter_context(RowWriter(path)) for row_set, path in self.paths.items()}
        self._words = {
            row_set: self._files.enter_context(WordHashWriter(scratch / f"{row_set}.words")) for row_set in sets
        }
        self._splitter = Splitter(eval_fraction)
        self._general_ids = HashSet()
        self._duplicates: list[tuple[str, str]] = []
        self._prompt_overlaps: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)

    @property
    def rows_added(self) -> int:
        """Number of valid rows of all sources."""
        return self.outcomes.total() + self.general_outcomes.total()

    def leave_out(self, row_set: RowSet | None) -> None:
        """Count a valid row that is left out for what it is."""
        (self.general_outcomes if row_set == "general" else self.outcomes)["left_out"] += 1

    def add(self, row: Row | DropReason, group: str, row_set: RowSet | None, weight: float = 1.0) -> RowOutcome:
        """Write a valid row, or count why it is dropped; returns what became of it.

        Args:
            row: the row, or why screening drops it.
            group: rows of one group go to the same split; empty: by the hash of the prompt.
            row_set: the set that all rows of its source go to; None: by the hash. General rows come last, when all
                rows to train on are known.
            weight: how often the row is trained on in an epoch; a fraction: the probability that it is.
        """
        outcome: RowOutcome
        if row_set == "general":
            outcome = row if isinstance(row, str) else self._add_general(row)
            self.general_outcomes[outcome] += 1
        else:
            outcome = row if isinstance(row, str) else self._add(row, group, row_set, weight)
            self.outcomes[outcome] += 1
        return outcome

    def _add(self, row: Row, group: str, split: Split | None, weight: float) -> RowOutcome:
        decision = self._splitter.decide(row, group, split)
        if decision == "duplicate":
            if len(self._duplicates) < MAX_EXAMPLES:
                self._duplicates.append((row.origin, row.id))
        elif decision == "prompt_overlap":
            if len(self._prompt_overlaps) < MAX_EXAMPLES:
                self._prompt_overlaps.append((row.origin, prompt_hash(row)))
        elif decision == "train" and weight != 1:
            # Other bits than those that order rows, so that a part of a source is a part of everything in it.
            copies = int(weight) + (row.id_hash % 2**32 < (weight % 1) * 2**32)
            if not copies:
                return "left_out"
            self._write(decision, replace(row, copies=copies))
        else:
            self._write(decision, row)
        return decision

    def _add_general(self, row: Row) -> RowOutcome:
        if self._splitter.is_trained_on(row):
            return "prompt_overlap"
        if not self._general_ids.add(row.id_hash):
            return "duplicate"
        self._write("general", row)
        return "general"

    def _write(self, row_set: RowSet, row: Row) -> None:
        self._writers[row_set].write(row)
        self._words[row_set].add(row)

    def words(self) -> dict[RowSet, WordHashes]:
        """The word hashes of all written rows. The files must be closed."""
        return {row_set: writer.words() for row_set, writer in self._words.items()}

    def duplicates(self) -> list[Duplicate]:
        """The first duplicates, each with the origin of the row that it repeats. The files must be closed."""
        wanted = {row_id for _, row_id in self._duplicates}
        origins: dict[str, str] = {}
        for path in self.paths.values() if wanted else ():
            for row_id, origin in stream_origins(path):
                if row_id in wanted:
                    origins.setdefault(row_id, origin)
        return [Duplicate(origin=origin, other_origin=origins[row_id]) for origin, row_id in self._duplicates]

    def prompt_overlaps(self) -> list[Duplicate]:
        """The first rows whose prompt the other split has, each with the origin of such a row there.

        The files must be closed.
        """
        wanted = {key for _, key in self._prompt_overlaps}
        origins: dict[int, str] = {}
        for path in (self.paths["eval"], self.paths["train"]) if wanted else ():
            for row in stream_rows(path):
                if (key := prompt_hash(row)) in wanted:
                    origins.setdefault(key, row.origin)
        return [Duplicate(origin=origin, other_origin=origins[key]) for origin, key in self._prompt_overlaps]

    def check_splits(self, has_eval_source: bool, eval_fraction: float) -> None:
        """Raise where train or eval is empty.

        Raises:
            DatasetError: says what to change.
        """
        counts = self.outcomes
        if counts["train"] and counts["eval"]:
            return
        dropped = f"{counts.total()} valid rows, of which {counts['duplicate']} are duplicates and "
        dropped += f"{counts['prompt_overlap']} have a prompt of the other split"
        if counts["personal_data"] or counts["policy"]:
            dropped += f", {counts['personal_data']} with personal data and {counts['policy']} that the policy drops"
        if counts["left_out"]:
            dropped += f", {counts['left_out']} left out for what they are or for their source's weight"
        if not counts["train"] and has_eval_source:
            remedy = "every row of data.source is in data.eval_source too; name other rows to train on"
        elif not counts["train"]:
            remedy = f"lower data.eval_fraction, which is {eval_fraction}, or add rows with other prompts"
        else:
            remedy = (
                f"raise data.eval_fraction, which is {eval_fraction}, add rows with other prompts, or name rows to "
                "evaluate on with data.eval_source"
            )
        raise DatasetError(f"no row is left to {'evaluate' if counts['train'] else 'train'} on ({dropped}): {remedy}")
