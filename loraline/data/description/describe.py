"""A look at every row that is kept: fingerprint, lengths, answers, labels, samples."""

import heapq
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset import Sample, Truncation
from loraline.artifacts.dataset_files import Split
from loraline.data.description.excerpts import sample_of
from loraline.data.description.lengths import LengthMeter, token_counter
from loraline.data.description.truncation import TruncationMeter
from loraline.data.rows import Row
from loraline.data.split import Fingerprint
from loraline.data.stored_rows import stored_rows

_SAMPLES = 5
_ROWS_PER_WATCH = 500
_MOST_LABELS, _ROWS_PER_LABEL, _LABEL_CHARACTERS = 50, 10, 60


class Description:
    """What is told about the rows of train and eval."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> None:
        self.fingerprint = Fingerprint()
        self._truncation = TruncationMeter(tokenizer, max_length) if max_length else None
        hear = self._truncation.add if self._truncation else None
        self.lengths = LengthMeter(token_counter(tokenizer), hear)
        self._labels = LabelCounter()
        self._samples: dict[Split, list[tuple[int, Row]]] = {"train": [], "eval": []}

    def look(self, side: Split, path: Path, advance: Callable[[int], None]) -> None:
        """Take in all rows of a file; `advance` hears how many of them are done."""
        number = 0
        for number, row in enumerate(stored_rows(path), 1):
            self.fingerprint.add(side, row.id)
            self.lengths.add(side, row)
            self._labels.add(side, row)
            # The smallest ids: as good as a random choice, and the same whatever the order of the rows.
            samples = self._samples[side]
            entry = (-int(row.id, 16), row)
            if len(samples) < _SAMPLES:
                heapq.heappush(samples, entry)
            elif entry[0] > samples[0][0]:
                heapq.heapreplace(samples, entry)
            if number % _ROWS_PER_WATCH == 0:
                advance(number)
        advance(number)

    def truncation(self) -> Truncation | None:
        """What training cuts off; call it after the lengths' report. None where it was not measured."""
        return self._truncation.report() if self._truncation else None

    def labels(self) -> dict[str, dict[str, int]] | None:
        """Rows by answer, where answers are few and come again and again."""
        return self._labels.report()

    def samples(self) -> dict[str, list[Sample]]:
        """A few rows of each side."""
        return {side: [sample_of(row) for _, row in sorted(kept, reverse=True)] for side, kept in self._samples.items()}


def fingerprint_of(path: Path, side: str) -> str:
    """The fingerprint of a file's rows."""
    fingerprint = Fingerprint()
    for row in stored_rows(path):
        fingerprint.add(side, row.id)
    return fingerprint.hexadecimal()


class LabelCounter:
    """Counts the answers of rows, for as long as they may be labels."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] | None = {}

    def add(self, side: Split, row: Row) -> None:
        """Take in a row."""
        if self._counts is None:
            return
        answer = row.messages[-1]["content"].strip() if row.messages else ""
        if not answer or len(answer) > _LABEL_CHARACTERS:
            self._counts = None
            return
        self._counts.setdefault(answer, Counter())[side] += 1
        if len(self._counts) > _MOST_LABELS:
            self._counts = None

    def report(self) -> dict[str, dict[str, int]] | None:
        """{label: {train, eval}}, the most frequent first; None where the answers are no labels."""
        counts = self._counts
        if not counts or sum(one.total() for one in counts.values()) < _ROWS_PER_LABEL * len(counts):
            return None
        ordered = sorted(counts, key=lambda label: (-counts[label].total(), label))
        return {label: {side: counts[label][side] for side in ("train", "eval")} for label in ordered}
