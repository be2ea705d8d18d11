"""Compute the verdict from findings: every measurement, every check, and the verdict that follows from them.

Nothing but the findings is read, so that the evidence alone gives the same verdict again, to the bit.
"""

from collections.abc import Callable
from dataclasses import dataclass

from loraline.artifacts.verdict import Verdict
from loraline.evidence.schema import Check, Comparison, Evidence, Findings, Forgetting
from loraline.gate.checks import (
    answers,
    champion,
    completeness,
    contamination,
    content,
    data,
    forgetting,
    gain,
    mask,
    merge,
    packing,
    safety,
    template,
    training,
    weights,
)
from loraline.gate.margin import margin_spent_with
from loraline.gate.measurements import Measurements, measure

CHECKS: tuple[Callable[[Findings, Measurements], Check], ...] = (
    data.check,
    content.check,
    mask.check,
    template.check,
    packing.check,
    training.check,
    answers.check,
    gain.check,
    champion.check,
    forgetting.check,
    safety.check,
    contamination.check,
    merge.check,
    weights.check,
    completeness.check,
)
"""In the order of the page."""

_IN_FAVOUR = ("gain", "champion", "forgetting", "safety", "merge", "weights")


@dataclass(frozen=True)
class Weighing:
    """What follows from findings."""

    verdict: Verdict
    checks: list[Check]
    comparisons: list[Comparison]
    forgetting: Forgetting | None


def weigh(findings: Findings) -> Weighing:
    """Make every check. One that fails is a reject; the same findings always give the same result."""
    measurements = measure(findings)
    checks = [check(findings, measurements) for check in CHECKS]
    verdict = _decide(findings, measurements, checks)
    return Weighing(verdict, checks, measurements.comparisons, measurements.forgetting)


def reweigh(evidence: Evidence) -> Verdict:
    """Compute the verdict of stored evidence again; it equals the stored one, or the evidence was altered."""
    return weigh(evidence).verdict


def _decide(findings: Findings, measurements: Measurements, checks: list[Check]) -> Verdict:
    thresholds = findings.thresholds
    comparison = measurements.comparison("base", thresholds.metric)
    by_name = {check.name: check for check in checks}
    against = [check.detail for check in checks if check.failed]
    in_favour = [by_name[name].detail for name in _IN_FAVOUR if by_name[name].passed]
    unmeasured = [check for check in checks if check.outcome == "not measured"]
    if not against and contamination.is_contaminated(findings):
        in_favour.append(by_name["contamination"].detail)
    return Verdict(
        verdict="reject" if against else "promote",
        reasons=against or [*in_favour, *(check.detail for check in unmeasured)],
        not_measured=[check.name for check in unmeasured],
        metric=thresholds.metric,
        gain=comparison.difference if comparison else None,
        min_gain=thresholds.min_gain,
        examples=comparison.examples if comparison else 0,
        lower=comparison.lower if comparison else None,
        upper=comparison.upper if comparison else None,
        margin_spent=margin_spent_with(findings, measurements.comparison("champion", thresholds.metric)),
        confidence=thresholds.confidence,
        evaluated_as=findings.tuned.weights.describe() if findings.tuned else None,
        p_value=comparison.p_value if comparison else None,
    )
