"""What is left of gate.champion_margin: it can be spent once, and not again at each promotion."""

from loraline.evidence.schema import Comparison, Findings


def margin_spent(findings: Findings) -> float:
    """By how much the champion is worse than the best before it, by the metric that decides now."""
    champion = findings.champion
    return champion.margin_spent.get(findings.thresholds.metric, 0.0) if champion else 0.0


def lowest_difference(findings: Findings) -> float:
    """What the difference to the champion must be above: more than 0 where more than the margin is spent."""
    return margin_spent(findings) - findings.thresholds.champion_margin


def margin_spent_with(findings: Findings, comparison: Comparison | None) -> float:
    """What will be spent with the tuned model as champion; `comparison` is with the champion of now."""
    return max(0.0, margin_spent(findings) - comparison.difference) if comparison else 0.0
