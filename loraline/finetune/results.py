"""What the phases of a job return, readable on a terminal, in a REPL and in a notebook."""

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from loraline.artifacts.base import read_lines
from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.dataset_files import PAGE
from loraline.artifacts.evaluation import EXAMPLES, FIGURE_LABELS, LOWER_IS_BETTER, EvaluationReport, ScoredExample
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.training import TrainReport
from loraline.evidence.schema import Comparison, Evidence
from loraline.gate.comparisons import compare
from loraline.gate.gather import pair_examples
from loraline.report.formatting import figure, signed

_CONFIDENCE = 0.95


class _Shown:
    """A result whose representation is the text that it prints."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, repr=False)
class PreparedDataset(_Shown):
    """The rows to train on and to evaluate on."""

    folder: Path
    """train.parquet, eval.parquet and report.html."""
    report: DatasetReport

    def __str__(self) -> str:
        return self.report.headline()

    def _repr_html_(self) -> str:
        return _frame((self.folder / PAGE).read_text(encoding="utf-8"))


@dataclass(frozen=True, repr=False)
class TrainResult(_Shown):
    """A trained adapter."""

    adapter: Path
    """Its folder, in PEFT's layout."""
    report: TrainReport

    @property
    def history(self) -> list[dict[str, float]]:
        """Figures of each optimizer step; `pandas.DataFrame(result.history)` makes curves of them."""
        return [metrics.model_dump(exclude_none=True) for metrics in self.report.history]

    def __str__(self) -> str:
        best = self.report.best_eval_loss
        held_out = "" if best is None else f", on held-out rows {best:.3f}"
        return f"loss {self.report.final_loss:.3f} after {self.report.steps} steps{held_out}; adapter in {self.adapter}"


@dataclass(frozen=True, repr=False)
class EvaluationResult(_Shown):
    """Figures of the base, and of the tuned model on the same rows if there is one."""

    base: EvaluationReport
    tuned: EvaluationReport | None
    base_folder: Path
    """metrics.json and examples.jsonl of the base."""
    tuned_folder: Path | None

    @cached_property
    def examples(self) -> list[dict[str, Any]]:
        """Prompt, reference and answers of each example; `pandas.DataFrame(result.examples)` shows them as a table."""
        tuned = {one.id: one.answer for one in _scored(self.tuned_folder)} if self.tuned_folder else {}
        return [
            {"prompt": one.prompt, "reference": one.reference, "base": one.answer}
            | ({"tuned": tuned.get(one.id)} if self.tuned_folder else {})
            for one in _scored(self.base_folder)
        ]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """The tuned model against the base on the same examples, metric by metric, with 95% confidence intervals."""
        if self.tuned_folder is None:
            return []
        return compare(pair_examples(_scored(self.base_folder), _scored(self.tuned_folder), []), "base", _CONFIDENCE)

    def _table(self) -> list[list[str]]:
        title = f"{self.base.examples:,} held-out examples"
        figures = {label: value for label, value in _figures(self.base).items() if value is not None}
        if self.tuned is None:
            return [[title, "base"], *([label, figure(value)] for label, value in figures.items())]
        lines = [[title, "base", "tuned", "change", f"{_CONFIDENCE:.0%} interval"]]
        intervals = {FIGURE_LABELS[one.metric]: _interval(one) for one in self.comparisons}
        tuned = _figures(self.tuned)
        for label, value in figures.items():
            other = tuned.get(label)
            change = None if other is None else other - value
            lines.append([label, figure(value), figure(other), signed(change), intervals.get(label, "")])
        return lines

    def __str__(self) -> str:
        first, *others = zip(*self._table(), strict=True)
        columns = [_aligned(first, str.ljust), *(_aligned(column, str.rjust) for column in others)]
        return "\n".join("   ".join(cells).rstrip() for cells in zip(*columns, strict=True))

    def _repr_html_(self) -> str:
        head, *lines = ([html.escape(cell) for cell in line] for line in self._table())
        body = (f"<tr><th>{first}</th>{_tagged('td', cells)}</tr>" for first, *cells in lines)
        return f"<table><thead><tr>{_tagged('th', head)}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _scored(folder: Path) -> list[ScoredExample]:
    return list(read_lines(ScoredExample, folder / EXAMPLES))


def _aligned(cells: tuple[str, ...], align: Any) -> list[str]:
    width = max(map(len, cells))
    return [align(cell, width) for cell in cells]


def _tagged(tag: str, cells: list[str]) -> str:
    return "".join(f"<{tag}>{cell}</{tag}>" for cell in cells)


def _interval(comparison: Comparison) -> str:
    """The interval of tuned minus base; a comparison says by how much the tuned model is better."""
    if comparison.lower is None or comparison.upper is None:
        return ""
    ends = (comparison.lower, comparison.upper)
    low, high = (-ends[1], -ends[0]) if comparison.metric in LOWER_IS_BETTER else ends
    return f"{signed(low)} to {signed(high)}"


def _figures(report: EvaluationReport) -> dict[str, float | None]:
    """All figures of an evaluation by their label."""
    figures: dict[str, float | None] = {label: report.figure(name) for name, label in FIGURE_LABELS.items()}
    figures["loss on general rows"] = report.general.loss if report.general else None
    figures |= {f"{name}, {task.metric}": task.value for name, task in report.tasks.items()}
    rates = report.safety.model_dump() if report.safety else {}
    return figures | {name.replace("_", " "): rate for name, rate in rates.items()}


@dataclass(frozen=True, repr=False)
class MergeResult(_Shown):
    """A merged model: a standard Hugging Face folder."""

    folder: Path
    report: MergeReport

    def __str__(self) -> str:
        return f"{self.folder}: {self.report.headline()}"


@dataclass(frozen=True, repr=False)
class ReportPage(_Shown):
    """The verdict of the gate, and the page that shows what it rests on."""

    evidence: Evidence
    html: str
    """The whole page: one file without scripts that needs no network."""
    summary: str
    """Verdict, figures and checks as Markdown."""

    @property
    def verdict(self) -> str:
        """`promote` or `reject`."""
        return self.evidence.verdict.verdict

    @property
    def reasons(self) -> list[str]:
        """Why, in sentences."""
        return self.evidence.verdict.reasons

    def save(self, path: str | Path) -> Path:
        """Write the page into a file."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(self.html, encoding="utf-8")
        return Path(path)

    def __str__(self) -> str:
        return "\n".join([self.verdict, *(f"- {reason}" for reason in self.reasons)])

    def _repr_html_(self) -> str:
        return _frame(self.html)


def _frame(page: str) -> str:
    """A page within a notebook, whose styles stay its own."""
    content = html.escape(page, quote=True)
    return f'<iframe srcdoc="{content}" style="width: 100%; height: 42em; border: 1px solid #ccc"></iframe>'
