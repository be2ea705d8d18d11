"""The check `gain`: the tuned model is better than its base, by more than chance and more than the minimum."""

from loraline.artifacts.evaluation import FIGURE_LABELS
from loraline.evidence.schema import Check, Comparison, Findings
from loraline.evidence.statistics import fewest_decisive
from loraline.gate.measurements import Measurements
from loraline.gate.paired_scores import (
    describe_change,
    example_faults,
    figure_faults,
    pairing_faults,
    tokenized_differently,
)
from loraline.gate.wording import interval, is_above, make_check, not_made, some_ids, test_result


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that the gain's lower confidence limit is above gate.min_gain."""
    if findings.base is None or findings.tuned is None:
        return make_check("gain", not_made(findings, "base" if findings.base is None else "tuned"))
    thresholds = findings.thresholds
    comparison = measurements.comparison("base", thresholds.metric)
    faults = [
        *pairing_faults(findings.pairing.base, "base"),
        *figure_faults(findings, "base"),
        *figure_faults(findings, "tuned"),
        *example_faults(findings, "base"),
        *_token_faults(findings),
    ]
    if comparison is None or faults:
        return make_check("gain", faults or [f"the gain in {FIGURE_LABELS[thresholds.metric]} cannot be computed"])
    found = f"{describe_change(findings, comparison)}: a gain of {comparison.difference:.4g}"
    if comparison.lower is None or comparison.upper is None:
        return make_check("gain", [f"{found}, on too few examples for an interval, or one outweighs the others"])
    found += f" ({interval(comparison.lower, comparison.upper, comparison.confidence)}; {test_result(comparison)})"
    minimum = f"gate.min_gain = {thresholds.min_gain:g}"
    if not is_above(comparison.lower, thresholds.min_gain):
        faults = [f"{found}, whose lower end is not above {minimum}"]
    elif reason := _may_be_chance(comparison):
        faults = [f"{found}: {reason}"]
    return make_check("gain", faults, f"{found}, whose lower end is above {minimum}")


def _token_faults(findings: Findings) -> list[str]:
    """Base and tuned model have one tokenizer, so that each example has as many labelled tokens for both."""
    ids = tokenized_differently(findings, "base")
    if not ids:
        return []
    return [f"{len(ids)} examples have other labelled tokens for the base than for tuned ({some_ids(ids)})"]


def _may_be_chance(comparison: Comparison) -> str:
    """Why an interval above the minimum is not enough: an exact test over so few wins could never agree."""
    decided, fewest = comparison.wins + comparison.losses, fewest_decisive(comparison.confidence)
    if decided < fewest:
        return f"only {decided} examples differ, and fewer than {fewest} can always be chance"
    return ""
