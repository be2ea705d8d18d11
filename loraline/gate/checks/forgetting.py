"""The check `forgetting`: the tuned model keeps what it was not trained for, on a general set and on tasks."""

import math

from loraline.artifacts.evaluation import SummedLoss
from loraline.evidence.schema import Check, Findings, Forgetting, TaskDrop
from loraline.gate.measurements import Measurements, has_both_losses
from loraline.gate.paired_scores import pairing_faults
from loraline.gate.wording import interval, is_above, make_check, not_measured, some_ids


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that the loss on the general set rises, and tasks fall, by no more than the thresholds."""
    measured = measurements.forgetting
    on_rows = bool(findings.lineage.general_source) or bool(measured and measured.threshold is not None)
    on_tasks = bool(findings.lineage.tasks) or bool(measured and measured.tasks)
    if not (on_rows or on_tasks):
        return not_measured("forgetting", "switched off by data.general_source, which is empty, as is evaluation.tasks")
    faults, details = [], []
    if on_rows:
        faults += _general_faults(findings, measured)
        details += [
            f"{_describe_general(findings, measured)}, within {_limit(findings)}" if measured and not faults else ""
        ]
    else:
        details.append("on rows not measured: switched off by data.general_source, which is empty")
    if on_tasks:
        tasks = measured.tasks if measured else {}
        if not tasks:
            faults.append("evaluation.tasks names tasks, but neither side has figures of any")
        faults += [fault for name, task in tasks.items() for fault in _task_faults(findings, name, task)]
        limit = f"within gate.max_task_drop = {findings.thresholds.max_task_drop:g}"
        details += [f"{_describe_task(findings, name, task)}, {limit}" for name, task in tasks.items() if not faults]
    else:
        details.append("on tasks not measured: evaluation.tasks is empty")
    return make_check("forgetting", faults, "; ".join(details))


def _general_faults(findings: Findings, measured: Forgetting | None) -> list[str]:
    thresholds = findings.thresholds
    faults = [*pairing_faults(findings.pairing.general, "base", "general rows")]
    for name, loss in (("base", measured and measured.base), ("tuned model", measured and measured.tuned)):
        if loss is None:
            faults.append(f"the loss of the {name} on the general set is missing or not a number")
    if incomplete := [row.id for row in findings.general if not has_both_losses(row)]:
        faults.append(
            f"{len(incomplete)} general rows have no loss on a side, or another number of tokens on each "
            f"({some_ids(incomplete)})"
        )
    count = measured.examples if measured else 0
    if count < thresholds.min_examples:
        faults.append(
            f"{count} general rows have a loss on both sides, fewer than gate.min_examples = "
            f"{thresholds.min_examples}: give a larger data.general_source"
        )
    if faults or measured is None:
        return faults
    faults += _stated_faults("base", measured.base, [row.base for row in findings.general])
    faults += _stated_faults("tuned model", measured.tuned, [row.tuned for row in findings.general])
    if measured.upper is None or is_above(measured.upper, thresholds.max_forgetting):
        faults.append(f"{_describe_general(findings, measured)}, whose upper end is above {_limit(findings)}")
    return faults


def _stated_faults(name: str, stated: float | None, rows: list[SummedLoss]) -> list[str]:
    """The stated loss must be the mean over the rows."""
    computed = math.fsum(row.loss or 0.0 for row in rows) / sum(row.tokens for row in rows)
    if stated is None or math.isclose(stated, computed, rel_tol=1e-6, abs_tol=1e-9):
        return []
    return [f"the loss of the {name} on the general set is stated as {stated:.6g}, but its rows give {computed:.6g}"]


def _describe_general(findings: Findings, measured: Forgetting) -> str:
    limits = "no interval"
    if measured.lower is not None and measured.upper is not None:
        limits = interval(measured.lower, measured.upper, findings.thresholds.confidence)
    return (
        f"on {measured.examples} general rows the loss went from {measured.base:.4g} to {measured.tuned:.4g}, "
        f"by {measured.difference:+.4g} ({limits})"
    )


def _limit(findings: Findings) -> str:
    return f"gate.max_forgetting = {findings.thresholds.max_forgetting:g}"


def _task_faults(findings: Findings, name: str, task: TaskDrop) -> list[str]:
    thresholds = findings.thresholds
    if task.drop is None:
        figures = {"base": task.base, "tuned model": task.tuned}
        missing = " and the ".join(side for side, value in figures.items() if value is None)
        return [f"the task {name} has no figure for its main metric of the {missing}"]
    if 0 < task.examples < thresholds.min_examples:
        return [
            f"{task.examples} examples of the task {name} have a score of both models, fewer than gate.min_examples = "
            f"{thresholds.min_examples}"
        ]
    if task.upper is None:
        found = _describe_task(findings, name, task)
        return [f"{found}: its main metric is no mean over examples and has no standard error"]
    if is_above(task.upper, thresholds.max_task_drop):
        limit = f"gate.max_task_drop = {thresholds.max_task_drop:g}"
        return [f"{_describe_task(findings, name, task)}, whose upper end is above {limit}"]
    return []


def _describe_task(findings: Findings, name: str, task: TaskDrop) -> str:
    limits = "no interval"
    if task.lower is not None and task.upper is not None:
        limits = interval(task.lower, task.upper, findings.thresholds.confidence)
    if task.examples:
        limits += f" over {task.examples} examples"
    if task.left_out:
        limits += f", {task.left_out} more of one model alone"
    return f"{name} ({task.metric}) went from {task.base:.4g} to {task.tuned:.4g}, worse by {task.drop:.4g} ({limits})"
