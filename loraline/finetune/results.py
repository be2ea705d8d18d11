"""What the phases of a job return, readable on a terminal, in a REPL and in a notebook."""

import html
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from loraline.artifacts.base import read_lines
from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.dataset_files import PAGE
from loraline.artifacts.evaluation import EXAMPLES, EvaluationReport, ScoredExample
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.training import TrainReport
from loraline.evidence.schema import Evidence
from loraline.evidence.statistics import Interval, paired_bootstrap
from loraline.report.formatting import LABELS, figure, signed

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
        tuned = {example.id: example.answer for _, example in self._pairs()}
        return [
            {"prompt": one.prompt, "reference": one.reference, "base": one.answer}
            | ({"tuned": tuned.get(one.id)} if self.tuned_folder else {})
            for one in _scored(self.base_folder)
        ]

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The difference tuned minus base with its 95% interval (paired bootstrap), by metric."""
        return {metric: interval for metric in LABELS if (interval := self._interval(metric))}

    def _interval(self, metric: str) -> Interval | None:
        pairs = [
            (base, tuned)
            for base, tuned in self._pairs()
            if getattr(base, metric, None) is not None and getattr(tuned, metric, None) is not None
        ]
        if not pairs:
            return None
        base, tuned = ([getattr(pair[side], metric) for pair in pairs] for side in (0, 1))
        weights = [one.tokens for _, one in pairs] if metric == "loss" else None
        return paired_bootstrap([one.id for one, _ in pairs], tuned, base, weights, _CONFIDENCE)

    def _pairs(self) -> Iterator[tuple[ScoredExample, ScoredExample]]:
        if self.tuned_folder:
            base = {example.id: example for example in _scored(self.base_folder)}
            yield from ((base[one.id], one) for one in _scored(self.tuned_folder) if one.id in base)

    def _table(self) -> list[list[str]]:
        title = f"{self.base.examples:,} held-out examples"
        figures = {label: value for label, value in _figures(self.base).items() if value is not None}
        if self.tuned is None:
            return [[title, "base"], *([label, figure(value)] for label, value in figures.items())]
        lines = [[title, "base", "tuned", "change", f"{_CONFIDENCE:.0%} interval"]]
        metrics = {label: metric for metric, label in LABELS.items()}
        tuned = _figures(self.tuned)
        for label, value in figures.items():
            other = tuned.get(label)
            interval = self.intervals.get(metrics.get(label, ""))
            change = None if other is None else other - value
            lines.append([label, figure(value), figure(other), signed(change), _ends(interval)])
        return lines

    def __str__(self) -> str:
        first, *others = zip(*self._table(), strict=True)
        columns = [_aligned(first, str.ljust), *(_aligned(column, str.rjust) for column in others)]
        return "\n".join("   ".join(cells).rstrip() for cells in zip(*columns, strict=True))

    def _repr_html_(self) -> str:
        head, *lines = ([html.escape(cell) for cell in line] for line in self._table())
        body = (f"<tr><th>{first}</th>{_tagged('td', cells)}</tr>" for first, *cells in lines)
        return f"<table><thead><tr>{_tagged('th', head)}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _scored(folder: Path) -> Iterator[ScoredExample]:
    return read_lines(ScoredExample, folder / EXAMPLES)


def _aligned(cells: tuple[str, ...], align: Any) -> list[str]:
    width = max(map(len, cells))
    return [align(cell, width) for cell in cells]


def _tagged(tag: str, cells: list[str]) -> str:
    return "".join(f"<{tag}>{cell}</{tag}>" for cell in cells)


def _ends(interval: Interval | None) -> str:
    if interval is None or interval.lower is None or interval.upper is None:
        return ""
    return f"{signed(interval.lower)} to {signed(interval.upper)}"


def _figures(report: EvaluationReport) -> dict[str, float | None]:
    """All figures of an evaluation by their label."""
    figures: dict[str, float | None] = {label: getattr(report, metric) for metric, label in LABELS.items()}
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
