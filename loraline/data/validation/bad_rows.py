"""Log the rows that are invalid: all of them in a file, the first in memory; and decide whether they are too many."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from loraline.artifacts.dataset import RowProblem
from loraline.artifacts.dataset_files import BAD_ROWS
from loraline.data.description.excerpts import MAX_EXAMPLES
from loraline.data.formats.turn_content import MEDIA
from loraline.data.validation.fields import EMPTY_ANSWER
from loraline.errors import DatasetError

_REPORTED_PROBLEMS = 100


class BadRowLog:
    """The bad rows of a run."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / BAD_ROWS
        self._file = self._path.open("w", encoding="utf-8")
        self._problems = 0
        self._fatal: list[RowProblem] = []
        self.rows = 0
        self.kinds: Counter[str] = Counter()
        self.first: list[RowProblem] = []
        self.empty_answers = 0
        self.first_empty_answers: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, problems: Sequence[RowProblem]) -> None:
        """Log all problems of one row."""
        self.rows += 1
        self._problems += len(problems)
        self.kinds.update(problem.kind for problem in problems)
        self._fatal += [problem for problem in problems if problem.fatal]
        self.first += problems[: _REPORTED_PROBLEMS - len(self.first)]
        if any(problem.kind == EMPTY_ANSWER for problem in problems):
            self.empty_answers += 1
            if len(self.first_empty_answers) < MAX_EXAMPLES:
                self.first_empty_answers.append(f"{problems[0].file}:{problems[0].line}")
        for problem in problems:
            # Not by pydantic, which refuses lone surrogates; a bad row's fields need not be valid Unicode.
            self._file.write(json.dumps(problem.model_dump()) + "\n")

    def check(self, rows_read: int, max_bad_fraction: float) -> None:
        """Raise where more rows are bad than allowed, or a file could not be read to its end.

        Raises:
            DatasetError: names the first problems and the file with all of them.
        """
        if not self._fatal and self.rows <= max_bad_fraction * rows_read:
            return
        self._file.flush()
        shown = [*self._fatal, *(problem for problem in self.first if not problem.fatal)][:MAX_EXAMPLES]
        more = self._problems - len(shown)
        lines = [f"  {problem}" for problem in shown]
        if more:
            lines.append(f"  and {more} more problems")
        raise DatasetError(
            f"{self.rows} of {rows_read} rows are bad; data.max_bad_fraction = {max_bad_fraction} allows "
            f"{int(max_bad_fraction * rows_read)}:\n"
            + "\n".join(lines)
            + f"\nAll problems are in {self._path}. "
            + self._remedy(rows_read)
        )

    def _remedy(self, rows_read: int) -> str:
        if self._fatal:
            return "Repair or replace the files that cannot be read to their end; max_bad_fraction does not cover them."
        fraction = self.rows / rows_read
        if fraction == 1 and set(self.kinds) == {MEDIA}:
            return "Only text is trained on, and no row is text alone."
        if fraction == 1:
            return "No row is valid; check data.columns and data.format."
        above = min(0.999, int(fraction * 1000 + 1) / 1000)
        return f"Correct the rows, or set data.max_bad_fraction={above} to drop them."
