"""The check `champion`: the tuned model is not worse than the champion by more than the margin."""

from loraline.evidence.schema import Check, Findings
from loraline.gate.measurements import Measurements
from loraline.gate.paired_scores import (
    describe_change,
    example_faults,
    figure_faults,
    pairing_faults,
    tokenized_differently,
)
from loraline.gate.wording import interval, is_above, make_check, not_made, not_measured


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that the difference's lower confidence limit is above -gate.champion_margin, where there is a champion."""
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
        *pairing_faults(findings.pairing.champion, "champion"),
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
    margin = f"-gate.champion_margin = {-thresholds.champion_margin:g}"
    if not is_above(comparison.lower, -thresholds.champion_margin):
        faults = [f"{found}, whose lower end is not above {margin}"]
    return make_check("champion", faults, f"{found}, whose lower end is above {margin}")
