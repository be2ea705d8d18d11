"""The evidence in Markdown: the summary of a run, and the tables of the model card."""

from loraline.artifacts.evaluation import FIGURE_LABELS
from loraline.evidence.schema import Comparison, Evidence
from loraline.report.formatting import figure, interval, percent, probability, signed
from loraline.report.metric_table import metric_rows


def run_summary(evidence: Evidence) -> str:
    """Verdict and reasons, the metrics and the checks."""
    reasons = "\n".join(f"- {reason}" for reason in evidence.verdict.reasons)
    parts = [f"## {evidence.verdict.verdict.capitalize()}", reasons, metrics_table(evidence), checks_table(evidence)]
    return "\n\n".join(parts) + "\n"


def metrics_table(evidence: Evidence) -> str:
    """Base against tuned model, and the champion where there is one."""
    has_champion = evidence.evaluation("champion") is not None
    names = ["base", "tuned", "change", *(["champion"] if has_champion else [])]
    lines = [_line(["metric", *names]), "|---|" + "---:|" * len(names)]
    for row in metric_rows(evidence):
        cells = [row.label, figure(row.base), figure(row.tuned), signed(row.difference)]
        lines.append(_line([*cells, figure(row.champion)] if has_champion else cells))
    return "\n".join(lines)


def comparisons_table(evidence: Evidence) -> str:
    """Every comparison with its confidence interval and test; empty where nothing was compared."""
    if not evidence.comparisons:
        return ""
    confidence = percent(evidence.comparisons[0].confidence)
    head = _line(["tuned against", "better by", f"{confidence} interval", "won, lost, tied", "p"])
    return "\n".join([head, "|---|---:|---:|---:|---:|", *map(_comparison, evidence.comparisons)])


def checks_table(evidence: Evidence) -> str:
    """Every check of the gate, its outcome and the figures."""
    lines = [
        _line([check.name, "**failed**" if check.failed else check.outcome, check.detail]) for check in evidence.checks
    ]
    return "\n".join([_line(["check", "outcome", "detail"]), "|---|---|---|", *lines])


def _comparison(one: Comparison) -> str:
    counts = f"{one.wins}, {one.losses}, {one.ties}"
    name = f"{one.against}, {FIGURE_LABELS[one.metric]}"
    p_value = probability(one.p_value).removeprefix("= ")
    return _line([name, signed(one.difference), interval(one.lower, one.upper), counts, p_value])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
