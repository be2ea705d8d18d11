"""What the tuned model lost on rows and tasks that it was not trained for."""

import math
from typing import Any

from loraline.evidence.schema import Check, Findings, Forgetting, PairedExample, Scored, TaskDrop, Thresholds
from loraline.evidence.statistics import paired_bootstrap
from loraline.gate.comparisons import pairing_faults
from loraline.gate.wording import above, asked, check, ids, interval, number, part


def measure(findings: Findings, held_to: Thresholds) -> Forgetting | None:
    """Put base and tuned side by side; None where neither a general set nor a task was measured."""
    base, tuned = (number(side, "general", "loss") for side in (findings.base, findings.tuned))
    tasks = _tasks(findings)
    if base is None and tuned is None and not findings.general and not tasks:
        return None
    pairs = [pair for pair in findings.general if _is_whole(pair)]
    difference = lower = upper = None
    if pairs:
        found = paired_bootstrap(
            [pair.id for pair in pairs],
            [pair.tuned.loss or 0.0 for pair in pairs],
            [pair.base.loss or 0.0 for pair in pairs],
            weights=[pair.base.tokens for pair in pairs],
            confidence=held_to.confidence,
        )
        difference, lower, upper = found.difference, found.lower, found.upper
    return Forgetting(
        base=base,
        tuned=tuned,
        difference=difference,
        lower=lower,
        upper=upper,
        budget=held_to.max_forgetting if pairs or base is not None or tuned is not None else None,
        examples=len(pairs),
        tasks=tasks,
    )


def forgetting(findings: Findings, held_to: Thresholds, found: Forgetting | None) -> Check:
    """The loss on the general set may rise, and tasks may fall, by no more than the recipe's budgets."""
    faults, said = [], []
    if asked(findings.lineage, "data", "general_source") or (found and found.budget is not None):
        faults += _general_faults(findings, held_to, found)
        said.append(f"{_general(found, held_to)}, within {_limit(held_to)}" if found and not faults else "")
    else:
        said.append("on rows not measured: data.general_source is empty")
    if asked(findings.lineage, "evaluation", "tasks") or (found and found.tasks):
        tasks = found.tasks if found else {}
        if not tasks:
            faults.append("evaluation.tasks names tasks, but neither side has figures of any")
        faults += [fault for name, drop in tasks.items() for fault in _task_faults(name, drop, held_to)]
        limit = f"within gate.max_task_drop = {held_to.max_task_drop:g}"
        said += [f"{_task(name, drop)}, {limit}" for name, drop in tasks.items() if not faults]
    else:
        said.append("on tasks not measured: evaluation.tasks is empty")
    return check("forgetting", faults, "; ".join(said))


def _general_faults(findings: Findings, held_to: Thresholds, found: Forgetting | None) -> list[str]:
    faults = [*pairing_faults(findings.pairing.get("general"), "base", "general rows")]
    for name, stated in (("base", findings.base), ("tuned model", findings.tuned)):
        if number(stated, "general", "loss") is None:
            faults.append(f"the loss of the {name} on the general set is missing or not a number")
    if broken := [pair.id for pair in findings.general if not _is_whole(pair)]:
        faults.append(
            f"{len(broken)} general rows have no loss on a side, or another number of tokens on each ({ids(broken)})"
        )
    if found is None or found.examples < held_to.min_examples:
        count = found.examples if found else 0
        faults.append(
            f"{count} general rows have a loss on both sides, fewer than gate.min_examples = {held_to.min_examples}"
        )
    if faults or found is None:
        return faults
    for name, loss, computed in (
        ("base", found.base, _loss([pair.base for pair in findings.general])),
        ("tuned model", found.tuned, _loss([pair.tuned for pair in findings.general])),
    ):
        if loss is not None and not math.isclose(loss, computed, rel_tol=1e-6, abs_tol=1e-9):
            faults.append(
                f"the loss of the {name} on the general set is stated as {loss:.6g}, but its rows give {computed:.6g}"
            )
    if found.upper is None or above(found.upper, held_to.max_forgetting):
        faults.append(f"{_general(found, held_to)}, whose upper end is above {_limit(held_to)}")
    return faults


def _general(found: Forgetting, held_to: Thresholds) -> str:
    assert found.difference is not None
    ends = "" if found.lower is None or found.upper is None else interval(found.lower, found.upper, held_to.confidence)
    return (
        f"on {found.examples} general rows the loss went from {found.base:.4g} to {found.tuned:.4g}, "
        f"by {found.difference:+.4g} ({ends or 'no interval'})"
    )


def _limit(held_to: Thresholds) -> str:
    return f"gate.max_forgetting = {held_to.max_forgetting:g}"


def _loss(scored: list[Scored]) -> float:
    return math.fsum(one.loss or 0.0 for one in scored) / sum(one.tokens for one in scored)


def _is_whole(pair: PairedExample) -> bool:
    losses = (pair.base.loss, pair.tuned.loss)
    return (
        all(loss is not None and math.isfinite(loss) for loss in losses) and 0 < pair.base.tokens == pair.tuned.tokens
    )


def _tasks(findings: Findings) -> dict[str, TaskDrop]:
    base, tuned = (part(side, "tasks") for side in (findings.base, findings.tuned))
    return {name: _drop(part(base, name), part(tuned, name)) for name in sorted({*base, *tuned})}


def _drop(base: dict[str, Any], tuned: dict[str, Any]) -> TaskDrop:
    """Compare a task's main metric, which the evaluation names."""
    named = {side.get("metric") for side in (base, tuned)} - {None}
    metric = named.pop() if len(named) == 1 else None
    before, after = (number(side, "values", str(metric)) for side in (base, tuned))
    drop = None
    if before is not None and after is not None:
        drop = after - before if base.get("higher_is_better") is False else before - after
    return TaskDrop(metric=metric, base=before, tuned=after, drop=drop)


def _task_faults(name: str, found: TaskDrop, held_to: Thresholds) -> list[str]:
    if found.drop is None:
        sides = {"base": found.base, "tuned model": found.tuned}
        lacking = " and the ".join(side for side, value in sides.items() if value is None)
        return [f"the task {name} has no figure for its main metric of the {lacking}"]
    if above(found.drop, held_to.max_task_drop):
        return [f"{_task(name, found)}, more than gate.max_task_drop = {held_to.max_task_drop:g}"]
    return []


def _task(name: str, found: TaskDrop) -> str:
    return f"{name} ({found.metric}) went from {found.base:.4g} to {found.tuned:.4g}, worse by {found.drop:.4g}"
