"""The check `champion`: the tuned model is not worse than the champion by more than the margin."""

from loraline.evidence.schema import Check, Findings
from loraline.gate.margin import lowest_difference, margin_spent
from loraline.gate.measurements import Measurements
from loraline.gate.paired_scores import (
    describe_change,
    example_faults,
    figure_faults,
    repetition_faults,
    tokenized_differently,
)
from loraline.gate.wording import interval, is_above, make_check, not_made, not_measured


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that the difference's lower confidence limit is above what is left of the margin.

    The margin is there for the uncertainty of a comparison, and is not given again at each promotion: a champion that
    is worse than the best before it has spent a part of it.
    """
    if findings.champion is None:
        return make_check("champion", not_made(findings, "champion"))
    if findings.champion.champion is None:
        return not_measured("champion", "there is no champion yet")
    if findings.champion.evaluation is None:
        return make_check("champion", not_made(findings, "champion"))
    name = f"the champion, version {findings.champion.champion.version}"
    thresholds = findings.thresholds
    comparison = measurements.comparison("champion", thresholds.metric)
    faults = [
        *(not_made(findings, "champion examples") if "champion examples" in findings.unreadable else []),
        *repetition_faults(findings.pairing.champion, "champion"),
        *figure_faults(findings, "champion"),
        *figure_faults(findings, "tuned"),
        *example_faults(findings, "champion"),
    ]
    if comparison is None or comparison.lower is None or comparison.upper is None or faults:
        reason = "; ".join(faults) or "no figure to compare"
        return make_check("champion", [f"not compared with {name}: {reason}"])
    found = (
        f"against {name}: {describe_change(findings, comparison)}, a difference of {comparison.difference:.4g} "
        f"({interval(comparison.lower, comparison.upper, comparison.confidence)})"
    )
    if thresholds.metric == "loss" and tokenized_differently(findings, "champion"):
        found += " for each token of the tuned model, as the champion has another tokenizer"
    found += _left_out(findings)
    spent, lowest = margin_spent(findings), lowest_difference(findings)
    margin = f"-gate.champion_margin = {-thresholds.champion_margin:g}"
    if spent:
        margin = f"{lowest:.4g}: {margin}, of which {spent:.4g} is spent since the best champion"
    if not is_above(comparison.lower, lowest):
        faults = [f"{found}, whose lower end is not above {margin}"]
    return make_check("champion", faults, f"{found}, whose lower end is above {margin}")


def _left_out(findings: Findings) -> str:
    """How many examples one of the two models alone was scored on."""
    pairing = findings.pairing.champion
    if pairing is None or not pairing.is_partial:
        return ""
    return (
        f"; left out: {len(pairing.other_only)} examples that only the champion was scored on, "
        f"{len(pairing.tuned_only)} that only the tuned model was"
    )
