"""How checks are worded: names, intervals, and what is said of a report that is not there."""

from collections.abc import Sequence

from loraline.artifacts.evaluation import FIGURE_LABELS, MetricName
from loraline.evidence.schema import Check, Comparison, EvaluatedModel, Findings, PartName

MODELS: dict[EvaluatedModel, str] = {"base": "base", "tuned": "tuned model", "champion": "champion"}
PARTS: dict[PartName, str] = {
    "data": "the dataset's report (report.json)",
    "mask": "the loss mask's report (mask.json)",
    "training": "the training report (training.json)",
    "merge": "the merge's report (parity.json)",
    "base": "the base's evaluation (metrics.json)",
    "tuned": "the tuned model's evaluation (metrics.json)",
    "champion": "the champion's evaluation (champion.json)",
    "base examples": "the base's list of scored examples (examples.jsonl)",
    "tuned examples": "the tuned model's list of scored examples (examples.jsonl)",
    "champion examples": "the champion's list of scored examples (examples.jsonl)",
    "base general rows": "the base's losses on the general set (general.jsonl)",
    "tuned general rows": "the tuned model's losses on the general set (general.jsonl)",
    "base probes": "the base's results on the probes (probes.jsonl)",
    "tuned probes": "the tuned model's results on the probes (probes.jsonl)",
}
_TESTS = {"mcnemar": "McNemar's exact test", "sign": "exact sign test"}
_IDS_NAMED = 3
_ROUNDING = 1e-9  # 0.2 - 0.15 is a little more than 0.05 in floating point


def make_check(name: str, faults: Sequence[str], detail: str = "") -> Check:
    """A check that passes where there is no fault, with `detail` as what was found."""
    return Check(name=name, outcome="failed" if faults else "passed", detail="; ".join(faults) or detail)


def not_measured(name: str, reason: str) -> Check:
    """A check that has nothing to measure: it does not apply, or a setting switched it off, which the reason names."""
    return Check(name=name, outcome="not measured", detail=f"{name} not measured: {reason}")


def unavailable(findings: Findings, part: PartName) -> str:
    """That a file is missing or cannot be read, and why."""
    reason = findings.unreadable.get(part)
    return f"{PARTS[part]} is missing or unreadable" + (f": {reason}" if reason else "")


def not_made(findings: Findings, *parts: PartName) -> list[str]:
    """The faults of a check that cannot be made without these files."""
    return [f"not made: {unavailable(findings, part)}" for part in parts]


def is_above(value: float, threshold: float) -> bool:
    """Whether a value is above a threshold by more than rounding."""
    return value > threshold + _ROUNDING


def some_ids(ids: Sequence[str]) -> str:
    """The first few ids, and whether there are more."""
    return ", ".join(ids[:_IDS_NAMED]) + (", ..." if len(ids) > _IDS_NAMED else "")


def interval(lower: float, upper: float, confidence: float) -> str:
    """An interval, as in `95% interval 0.1 to 0.2`."""
    return f"{100 * confidence:.6g}% interval {lower:.4g} to {upper:.4g}"


def change(metric: MetricName, other: float, tuned: float) -> str:
    """How a metric changed, as in `loss fell from 2.9 to 0.2`."""
    if other == tuned:
        return f"{FIGURE_LABELS[metric]} stayed at {tuned:.4g}"
    return f"{FIGURE_LABELS[metric]} {'rose' if tuned > other else 'fell'} from {other:.4g} to {tuned:.4g}"


def test_result(comparison: Comparison) -> str:
    """The result of a comparison's significance test."""
    counts = f"{comparison.wins} won, {comparison.losses} lost, {comparison.ties} even"
    return f"{counts}; {_TESTS[comparison.test]}: p = {comparison.p_value:.2g}"
