"""Base and tuned model compared on tasks of lm-evaluation-harness, over the examples that both have."""

import math
from statistics import NormalDist

from loraline.artifacts.evaluation import TaskReport
from loraline.evidence.schema import Findings, TaskDrop
from loraline.evidence.statistics import Interval, loss_interval, score_interval


def compare_tasks(findings: Findings) -> dict[str, TaskDrop]:
    """By task, how far the tuned model is below the base."""
    base, tuned = (report.tasks if report else {} for report in (findings.base, findings.tuned))
    confidence = findings.thresholds.confidence
    return {name: _compare(base.get(name), tuned.get(name), confidence) for name in sorted({*base, *tuned})}


def _compare(base: TaskReport | None, tuned: TaskReport | None, confidence: float) -> TaskDrop:
    """Compare the main metric of a task, which the evaluation names."""
    before, after = (report.value if report else None for report in (base, tuned))
    if base is None or tuned is None or base.metric != tuned.metric:
        metrics = {report.metric for report in (base, tuned) if report}
        metric = metrics.pop() if len(metrics) == 1 else None
        return TaskDrop(metric=metric, base=before if metric else None, tuned=after if metric else None, drop=None)
    if before is None or after is None:
        return TaskDrop(metric=base.metric, base=before, tuned=after, drop=None)
    worse, better = (tuned, base) if base.higher_is_better else (base, tuned)
    shared = sorted(base.scores.keys() & tuned.scores.keys())
    found = _paired(better, worse, shared, confidence) if shared else _unpaired(better, worse, confidence)
    return TaskDrop(
        metric=base.metric,
        base=before,
        tuned=after,
        drop=found.difference,
        lower=found.lower,
        upper=found.upper,
        examples=len(shared),
        left_out=len(base.scores.keys() ^ tuned.scores.keys()),
    )


def _paired(one: TaskReport, other: TaskReport, ids: list[str], confidence: float) -> Interval:
    """The interval of `one` minus `other` over these examples."""
    ours, theirs = ([report.scores[id_] for id_ in ids] for report in (one, other))
    values = [score.value for score in ours], [score.value for score in theirs]
    weights = [score.weight for score in ours]
    if all(weight == 1 for weight in weights) and all(0 <= value <= 1 for side in values for value in side):
        return score_interval(ids, *values, confidence)
    return loss_interval(*values, weights, confidence)


def _unpaired(one: TaskReport, other: TaskReport, confidence: float) -> Interval:
    """The interval of `one` minus `other` from their standard errors, as if they had answered different examples."""
    difference = (one.value or 0.0) - (other.value or 0.0)
    if one.stderr is None or other.stderr is None:
        return Interval(difference, None, None)
    width = NormalDist().inv_cdf((1 + confidence) / 2) * math.hypot(one.stderr, other.stderr)
    return Interval(difference, difference - width, difference + width)
