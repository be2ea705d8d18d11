"""Count the answers of a classification dataset."""

from collections import Counter

from loraline.artifacts.dataset_files import Split
from loraline.data.messages import last_answer
from loraline.data.rows import Row

_MAX_LABELS, _MIN_ROWS_PER_LABEL, _MAX_LABEL_CHARACTERS = 50, 10, 60


class LabelCounter:
    """Counts the answers of rows as long as they may be labels."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[Split]] | None = {}

    def add(self, split: Split, row: Row) -> None:
        """Count the answer of a row."""
        if self._counts is None:
            return
        answer = _answer(row)
        if not answer or len(answer) > _MAX_LABEL_CHARACTERS:
            self._counts = None
            return
        self._counts.setdefault(answer, Counter())[split] += 1
        if len(self._counts) > _MAX_LABELS:
            self._counts = None

    def report(self) -> dict[str, dict[Split, int]] | None:
        """Rows of each split by label, the most frequent first; None where the answers are no labels."""
        counts = self._counts
        if not counts or sum(one.total() for one in counts.values()) < _MIN_ROWS_PER_LABEL * len(counts):
            return None
        ordered = sorted(counts, key=lambda label: (-counts[label].total(), label))
        return {label: {"train": counts[label]["train"], "eval": counts[label]["eval"]} for label in ordered}


def _answer(row: Row) -> str:
    """The text of a row's last answer; "" where it is a plain text or calls tools."""
    last = last_answer(row.messages) if row.messages else None
    if row.messages is None or last is None or "tool_calls" in row.messages[last]:
        return ""
    return (row.messages[last]["content"] or "").strip()
