"""The metrics and tasks of base, tuned model and champion, side by side."""

import math
from dataclasses import dataclass
from typing import Literal

from loraline.artifacts.evaluation import FIGURE_LABELS, LOWER_IS_BETTER, FigureName
from loraline.evidence.schema import EvaluatedModel, Evidence
from loraline.gate.wording import is_above
from loraline.report.formatting import interval

Change = Literal["better", "worse", "same", ""]
"""What a difference means; empty where it is not known."""


@dataclass(frozen=True)
class MetricRow:
    """One figure of the models."""

    name: FigureName
    label: str
    base: float | None
    tuned: float | None
    champion: float | None
    difference: float | None
    """Tuned minus base."""
    change: Change
    decides: bool
    """Whether the gate decides by it."""

    @property
    def is_fraction(self) -> bool:
        """Whether it is between 0 and 1."""
        return self.name not in LOWER_IS_BETTER


@dataclass(frozen=True)
class TaskRow:
    """One task of lm-evaluation-harness."""

    name: str
    metric: str
    base: float | None
    tuned: float | None
    change: float | None
    """Tuned minus base."""
    is_within: bool | None
    """Whether the drop is within gate.max_task_drop with its whole interval; None where it is not known."""
    interval: str
    """Of the change."""


def metric_rows(evidence: Evidence) -> list[MetricRow]:
    """The figures of the models; those that neither base nor tuned model has are left out."""
    rows = []
    for name, label in FIGURE_LABELS.items():
        base, tuned, champion = (model_figure(evidence, model, name) for model in ("base", "tuned", "champion"))
        if base is None and tuned is None:
            continue
        difference = evidence.difference(name)
        decides = name == evidence.verdict.metric
        rows.append(MetricRow(name, label, base, tuned, champion, difference, _change(name, difference), decides))
    return rows


def model_figure(evidence: Evidence, model: EvaluatedModel, name: FigureName) -> float | None:
    """A figure of one model's evaluation; None where there is none."""
    evaluation = evidence.evaluation(model)
    return evaluation.figure(name) if evaluation else None


def details_of_unmeasured(evidence: Evidence) -> dict[str, str]:
    """By their names, why checks measured nothing."""
    return {check.name: check.detail for check in evidence.checks if check.outcome == "not measured"}


def task_rows(evidence: Evidence) -> list[TaskRow]:
    """The tasks of lm-evaluation-harness by name."""
    if evidence.forgetting is None:
        return []
    most = evidence.thresholds.max_task_drop
    return [
        TaskRow(
            name,
            task.metric or "",
            task.base,
            task.tuned,
            None if task.drop is None else -task.drop,
            None if task.upper is None else not is_above(task.upper, most),
            interval(*(None if end is None else -end for end in (task.upper, task.lower))),
        )
        for name, task in sorted(evidence.forgetting.tasks.items())
    ]


def _change(name: FigureName, difference: float | None) -> Change:
    if difference is None or not math.isfinite(difference):
        return ""
    if difference == 0:
        return "same"
    return "better" if (difference < 0) == (name in LOWER_IS_BETTER) else "worse"
