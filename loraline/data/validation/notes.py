"""Count what is changed, not read or left out of valid rows."""

from collections import Counter, defaultdict

from loraline.artifacts.dataset import RowNote
from loraline.data.description.excerpts import MAX_EXAMPLES


class NoteLog:
    """The notes on the rows of a run."""

    def __init__(self) -> None:
        self._rows: Counter[tuple[str, bool]] = Counter()
        self._origins: dict[tuple[str, bool], list[str]] = defaultdict(list)

    def add(self, kind: str, origin: str, left_out: bool = False) -> None:
        """Note something of a row.

        Args:
            kind: what, in words that are the same for all such rows.
            origin: where the row was read.
            left_out: whether the row is left out as a whole.
        """
        key = (kind, left_out)
        self._rows[key] += 1
        if len(self._origins[key]) < MAX_EXAMPLES:
            self._origins[key].append(origin)

    def report(self) -> list[RowNote]:
        """All notes, the most frequent first."""
        return [
            RowNote(kind=kind, rows=rows, left_out=left_out, origins=self._origins[kind, left_out])
            for (kind, left_out), rows in self._rows.most_common()
        ]
