"""What was done to the data, for programs (report.json) and for people (report.html)."""

import itertools
from pathlib import Path
from typing import Any

import pydantic

from loraline.data.description.findings import (
    Answers,
    Contamination,
    General,
    NearDuplicates,
    PersonalData,
    PolicyFindings,
)
from loraline.data.description.lengths import LengthReport
from loraline.data.description.notes import notes
from loraline.data.description.profile import Profile
from loraline.data.reading.records import Problem
from loraline.data.rows import Message, Row
from loraline.report.templates import templates

REPORT = "report.json"
PAGE = "report.html"
_SAMPLE_CHARACTERS = 2000


class RowCounts(pydantic.BaseModel):
    """What became of the rows: `read` is the sum of the others."""

    read: int = 0
    train: int = 0
    eval: int = 0
    bad: int = 0
    duplicates: int = 0
    overlap: int = 0
    """Rows not trained on because eval holds their prompt."""
    near_duplicates: int = 0
    """Rows dropped because they nearly repeat another, where data.near_duplicates says so."""
    personal_data: int = 0
    """Rows dropped because they hold personal data, where data.personal_data says so."""
    policy: int = 0
    """Rows that the safety policy drops."""


class Duplicate(pydantic.BaseModel):
    """A row that was dropped because it, or its prompt, repeats another."""

    origin: str
    first: str
    """Where the row is that it repeats."""


class Sample(pydantic.BaseModel):
    """A row to look at; long contents are cut."""

    id: str
    origin: str
    messages: list[Message] | None
    text: str | None

    @classmethod
    def of(cls, row: Row) -> "Sample":
        """Take a row, with its contents cut."""
        turns = row.messages and [{"role": turn["role"], "content": _cut(turn["content"])} for turn in row.messages]
        return cls(id=row.id, origin=row.origin, messages=turns, text=row.text and _cut(row.text))


class SourceReport(pydantic.BaseModel):
    """One source as it was read."""

    name: str
    bytes: int | None
    """Bytes of its files as they lie; None where it has no files of its own."""
    shape: str
    columns: dict[str, str]
    """Which column played which part."""


class DatasetReport(pydantic.BaseModel):
    """report.json: what was read, kept and dropped."""

    fingerprint: str
    """Hash of the rows of train and eval as sets: of their content alone."""
    sources: list[SourceReport]
    """The source, and after it the eval source and the general source where there are any."""
    rows: RowCounts
    bad_fraction: float
    bad_kinds: dict[str, int]
    """Problems by kind. A bad row may have several."""
    bad_rows: list[Problem]
    """The first problems; all are in bad_rows.jsonl."""
    duplicates: list[Duplicate]
    """The first rows that repeat another."""
    overlap: list[Duplicate]
    """The first rows that are not trained on because eval holds their prompt."""
    lengths: LengthReport
    near_duplicates: NearDuplicates
    contamination: Contamination
    personal_data: PersonalData
    answers: Answers
    policy: PolicyFindings | None
    """None where there is no policy."""
    languages: dict[str, int]
    """Rows of train and eval by language or script."""
    labels: dict[str, dict[str, int]] | None
    """Rows of train and eval by answer, where answers are few and come again and again; else None."""
    profile: Profile
    """What loraline.data.similarity.drift compares with another run's."""
    general: General | None
    """None where data.general_source is empty."""
    samples: dict[str, list[Sample]]
    """A few rows of train and of eval."""

    def headline(self) -> str:
        """The report in a line."""
        rows = self.rows
        dropped = {
            "bad": rows.bad,
            "duplicate": rows.duplicates,
            "overlapping": rows.overlap,
            "nearly duplicate": rows.near_duplicates,
            "with personal data": rows.personal_data,
            "against the policy": rows.policy,
        }
        shown = ", ".join(f"{number:,} {what}" for what, number in dropped.items() if number)
        return f"{rows.train:,} rows to train on, {rows.eval:,} to evaluate on" + (
            f"; dropped: {shown}" if shown else ""
        )

    def save(self, folder: Path) -> None:
        """Write report.json and report.html."""
        (folder / REPORT).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (folder / PAGE).write_text(self.html(), encoding="utf-8")

    def html(self) -> str:
        """The page: one file that asks nothing of the network."""
        environment = templates(__package__)
        environment.filters["count"] = lambda number: f"{number:,}"
        environment.globals["bins"] = _bins
        environment.globals["notes"] = notes
        return environment.get_template("report.html.j2").render(report=self)


def _cut(text: str) -> str:
    if len(text) <= _SAMPLE_CHARACTERS:
        return text
    return f"{text[:_SAMPLE_CHARACTERS]} ... ({len(text) - _SAMPLE_CHARACTERS} more characters)"


def _bins(lengths: LengthReport, part: Any) -> list[dict[str, Any]]:
    """The bars of a histogram: the label of each bin, rows of train and eval, and train's bar in percent."""
    edges, train, held_out = lengths.edges[part], lengths.train[part], lengths.eval[part]
    most = max(max(train.histogram) / train.rows, max(held_out.histogram) / held_out.rows)
    labels = [f"{low} to {high - 1}" if high - low > 1 else str(low) for low, high in itertools.pairwise(edges)]
    return [
        {
            "label": label,
            "train": in_train,
            "eval": in_eval,
            "train_percent": round(100 * in_train / train.rows / most, 1),
            "eval_percent": round(100 * in_eval / held_out.rows / most, 1),
        }
        for label, in_train, in_eval in zip(
            [*labels, f"{edges[-1]} +"], train.histogram, held_out.histogram, strict=True
        )
    ]
