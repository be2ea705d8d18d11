"""Keeps the list of bad rows: all of it on disk, the first of it in memory, and the verdict on it."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from loraline.artifacts.dataset_files import BAD_ROWS
from loraline.data.reading.formats import EMPTY_ANSWER
from loraline.data.reading.records import Problem
from loraline.errors import DatasetError

_KEPT = 100
_SHOWN = 20


class BadRows:
    """The bad rows of a run."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / BAD_ROWS
        self._file = self._path.open("w", encoding="utf-8")
        self._problems = 0
        self._fatal: list[Problem] = []
        self.rows = 0
        self.kinds: Counter[str] = Counter()
        self.first: list[Problem] = []
        self.empty_answers = 0
        self.first_empty_answers: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, problems: list[Problem]) -> None:
        """Take in all that is wrong with one row."""
        self.rows += 1
        self._problems += len(problems)
        self.kinds.update(problem.kind for problem in problems)
        self._fatal += [problem for problem in problems if problem.fatal]
        self.first += problems[: _KEPT - len(self.first)]
        if any(problem.kind == EMPTY_ANSWER for problem in problems):
            self.empty_answers += 1
            if len(self.first_empty_answers) < _SHOWN:
                self.first_empty_answers.append(f"{problems[0].file}:{problems[0].line}")
        for problem in problems:
            # Escaped, because a broken name or value need not be valid Unicode.
            self._file.write(json.dumps(asdict(problem)) + "\n")

    def check(self, rows_read: int, allowed_fraction: float) -> None:
        """Raise where there are more bad rows than allowed, or a file could not be read to its end.

        Raises:
            DatasetError: lists the first problems; the whole list is on disk.
        """
        if not self._fatal and self.rows <= allowed_fraction * rows_read:
            return
        self._file.flush()
        shown = [*self._fatal, *(problem for problem in self.first if not problem.fatal)][:_SHOWN]
        more = self._problems - len(shown)
        lines = [f"  {problem}" for problem in shown]
        if more:
            lines.append(f"  and {more} more problems")
        raise DatasetError(
            f"{self.rows} of {rows_read} rows are bad; data.max_bad_fraction = {allowed_fraction} allows "
            f"{int(allowed_fraction * rows_read)}:\n"
            + "\n".join(lines)
            + f"\nThe whole list is in {self._path}. "
            + self._remedy(rows_read)
        )

    def _remedy(self, rows_read: int) -> str:
        if self._fatal:
            return "Files that cannot be read to their end must be mended; dropping rows is no remedy."
        fraction = self.rows / rows_read
        if fraction == 1:
            return "No row is good; look at data.columns and data.format."
        above = min(0.999, int(fraction * 1000 + 1) / 1000)
        return f"Mend the rows, or set data.max_bad_fraction={above} to drop them."
