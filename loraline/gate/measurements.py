"""Everything that is computed from findings before the checks: comparisons with base and champion, and forgetting."""

import math
from dataclasses import dataclass

from loraline.artifacts.evaluation import EvaluationReport, MetricName
from loraline.evidence.schema import ComparedModel, Comparison, Findings, Forgetting, PairedLoss
from loraline.evidence.statistics import loss_interval
from loraline.gate.comparisons import compare
from loraline.gate.task_drops import compare_tasks


@dataclass(frozen=True)
class Measurements:
    """What the checks compare with the thresholds."""

    comparisons: list[Comparison]
    forgetting: Forgetting | None

    def comparison(self, against: ComparedModel, metric: MetricName) -> Comparison | None:
        """The comparison of one metric with one model; None where it was not made."""
        return next((one for one in self.comparisons if (one.against, one.metric) == (against, metric)), None)


def measure(findings: Findings) -> Measurements:
    """Compare the tuned model with base and champion."""
    examples, confidence = findings.examples, findings.thresholds.confidence
    return Measurements(
        comparisons=[*compare(examples, "base", confidence), *compare(examples, "champion", confidence)],
        forgetting=measure_forgetting(findings),
    )


def measure_forgetting(findings: Findings) -> Forgetting | None:
    """Compare base and tuned model on the general set and the tasks; None where neither was measured."""
    base, tuned = _general_loss(findings.base), _general_loss(findings.tuned)
    tasks = compare_tasks(findings)
    if base is None and tuned is None and not findings.general and not tasks:
        return None
    rows = [row for row in findings.general if has_both_losses(row)]
    difference = lower = upper = None
    if rows:
        found = loss_interval(
            [row.tuned.loss or 0.0 for row in rows],
            [row.base.loss or 0.0 for row in rows],
            [row.base.tokens for row in rows],
            findings.thresholds.confidence,
        )
        difference, lower, upper = found.difference, found.lower, found.upper
    is_measured = bool(rows) or base is not None or tuned is not None
    return Forgetting(
        base=base,
        tuned=tuned,
        difference=difference,
        lower=lower,
        upper=upper,
        threshold=findings.thresholds.max_forgetting if is_measured else None,
        examples=len(rows),
        tasks=tasks,
    )


def has_both_losses(row: PairedLoss) -> bool:
    """Whether a row has a finite loss of both models, over the same number of tokens."""
    losses = (row.base.loss, row.tuned.loss)
    return all(loss is not None and math.isfinite(loss) for loss in losses) and 0 < row.base.tokens == row.tuned.tokens


def _general_loss(report: EvaluationReport | None) -> float | None:
    return report.general.loss if report and report.general else None
