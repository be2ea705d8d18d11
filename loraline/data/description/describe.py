"""The pass over the rows that are kept: fingerprint, lengths, truncation, labels and samples."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset import ContentReport, LengthReport, SampleRow, Truncation
from loraline.artifacts.dataset_files import Split
from loraline.data.description.content import ContentChecker
from loraline.data.description.excerpts import sample_of
from loraline.data.description.labels import LabelCounter
from loraline.data.description.lengths import LengthCounter, token_counter
from loraline.data.description.truncation import TruncationCounter
from loraline.data.fingerprint import Fingerprint
from loraline.data.rows import Row, stream_rows

_SAMPLES = 5
_ROWS_PER_UPDATE = 500


@dataclass(frozen=True)
class DatasetDescription:
    """What the rows of train and eval are like."""

    fingerprint: str
    lengths: LengthReport
    truncation: Truncation | None
    """None where training.max_length is not known."""
    labels: dict[str, dict[Split, int]] | None
    """Rows by answer, where there are few different answers."""
    samples: dict[Split, list[SampleRow]]
    content: ContentReport


class DatasetDescriber:
    """Describes rows, in memory that does not grow with their number."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> None:
        self._fingerprint = Fingerprint()
        self._truncation = TruncationCounter(tokenizer, max_length) if max_length else None
        self._lengths = LengthCounter(token_counter(tokenizer), self._truncation.add if self._truncation else None)
        self._labels = LabelCounter()
        self._content = ContentChecker(tokenizer)
        self._samples: dict[Split, list[tuple[int, Row]]] = {"train": [], "eval": []}

    def add_file(self, split: Split, path: Path, advance: Callable[[int], None]) -> None:
        """Add all rows of a file; `advance` is called from time to time with the number of rows that are done."""
        number = 0
        for number, row in enumerate(stream_rows(path), 1):
            self._fingerprint.add(split, row.id)
            self._lengths.add(split, row)
            self._labels.add(split, row)
            self._content.add(row)
            self._sample(split, row)
            if number % _ROWS_PER_UPDATE == 0:
                advance(number)
        advance(number)

    def _sample(self, split: Split, row: Row) -> None:
        # The smallest ids: a random choice that does not depend on the order of the rows.
        samples = self._samples[split]
        entry = (-int(row.id, 16), row)
        if len(samples) < _SAMPLES:
            heapq.heappush(samples, entry)
        elif entry[0] > samples[0][0]:
            heapq.heapreplace(samples, entry)

    def finish(self) -> DatasetDescription:
        """Return the description of all rows. Both splits must have rows."""
        lengths = self._lengths.report()  # before the truncation's, which gets its last rows from it
        return DatasetDescription(
            fingerprint=self._fingerprint.hexdigest(),
            lengths=lengths,
            truncation=self._truncation.report() if self._truncation else None,
            labels=self._labels.report(),
            content=self._content.report(),
            samples={
                split: [sample_of(row) for _, row in sorted(samples, reverse=True)]
                for split, samples in self._samples.items()
            },
        )
