"""What became of a dataset's rows, and how long they are, as the dataset page and the run's page show it."""

from collections.abc import Sequence
from dataclasses import dataclass

from loraline.artifacts.dataset import DatasetReport, Duplicate, RowCounts, RowProblem
from loraline.artifacts.dataset_files import Split
from loraline.report import charts
from loraline.report.dataset_checks import ExampleList


@dataclass(frozen=True)
class RowCount:
    """The rows with one outcome."""

    label: str
    note: str
    count: int
    percent: float
    """Of the rows that were read."""
    is_dropped: bool


@dataclass(frozen=True)
class DroppedRows:
    """The rows that were dropped for one reason."""

    title: str
    note: str
    rows: ExampleList


def row_counts(rows: RowCounts) -> list[RowCount]:
    """The rows by outcome. The optional steps are left out where they dropped nothing."""
    shown = [
        ("train", "training set", rows.train, False),
        ("eval", "held-out evaluation set", rows.eval, False),
        ("invalid", "dropped: not valid", rows.bad, True),
        ("duplicates", "dropped: identical to another row", rows.duplicates, True),
        ("overlap", "dropped: their prompt is in the other set", rows.prompt_overlap, True),
    ]
    optional = [
        ("near-duplicates", "dropped: nearly identical to another row", rows.near_duplicates, True),
        ("personal data", "dropped: they contain personal data", rows.personal_data, True),
        ("policy", "dropped by the safety policy", rows.policy, True),
        ("left out", "dropped for what they are, or for their source's weight", rows.left_out, True),
    ]
    return [
        RowCount(label, note, count, round(100 * count / (rows.read or 1), 2), is_dropped)
        for label, note, count, is_dropped in [*shown, *(one for one in optional if one[2])]
    ]


def dropped_rows(report: DatasetReport) -> list[DroppedRows]:
    """The rows that were dropped, with the lines that they are on."""
    rows = report.rows
    kinds = ", ".join(f"{kind}: {count:,}" for kind, count in sorted(report.bad_kinds.items()))
    invalid = [(f"{one.file}:{one.line}", _reason(one)) for one in report.bad_rows]
    overlaps = _repeated(report.prompt_overlaps, rows.prompt_overlap)
    found = [
        DroppedRows("invalid", kinds, ExampleList(invalid, rows.bad)),
        DroppedRows("duplicates", "identical to another row", _repeated(report.duplicates, rows.duplicates)),
        DroppedRows("overlap", "their prompt is in the other set", overlaps),
        *(
            DroppedRows("left out", note.kind, ExampleList([(origin, note.kind) for origin in note.origins], note.rows))
            for note in report.notes
            if note.left_out
        ),
    ]
    return [one for one in found if one.rows.examples]


def length_charts(report: DatasetReport) -> list[charts.Histogram]:
    """Histograms of the lengths of prompts and completions, train and eval."""
    lengths = report.lengths
    found = [
        charts.histogram(
            f"{part.capitalize()} length in tokens", edges, lengths.train[part].histogram, lengths.eval[part].histogram
        )
        for part, edges in lengths.edges.items()
    ]
    return [chart for chart in found if chart]


def labels_by_frequency(labels: dict[str, dict[Split, int]]) -> list[tuple[str, int, int]]:
    """Label, rows in train and rows in eval; the most frequent in train first."""
    counted = [(label, counts["train"], counts["eval"]) for label, counts in labels.items()]
    return sorted(counted, key=lambda one: (-one[1], one[0]))


def _repeated(rows: Sequence[Duplicate], total: int) -> ExampleList:
    return ExampleList([(row.origin, f"same as {row.other_origin}") for row in rows], total)


def _reason(problem: RowProblem) -> str:
    return f"{problem.column}: {problem.reason}" if problem.column else problem.reason
