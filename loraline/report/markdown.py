"""The evidence in a few lines of Markdown."""

from loraline.evidence.schema import Comparison, Evidence
from loraline.report.evidence_view import EvidenceView
from loraline.report.formatting import LABELS, comparisons, figure, percent, signed
from loraline.report.intervals import probability


def to_markdown(bundle: Evidence) -> str:
    """Verdict and reasons, the checks, and the table base against tuned."""
    evidence = EvidenceView.of(bundle)
    reasons = "\n".join(f"- {reason}" for reason in evidence.verdict.reasons)
    parts = [f"## {evidence.verdict.verdict.capitalize()}", reasons, figures_table(evidence)]
    if evidence.checks:
        parts.append(checks_table(evidence))
    return "\n\n".join(parts) + "\n"


def figures_table(evidence: EvidenceView) -> str:
    """Base against tuned, and the champion where there is one, as a Markdown table."""
    with_champion = evidence.champion is not None
    names = ["base", "tuned", "change", *(["champion"] if with_champion else [])]
    rows = []
    for line in comparisons(evidence):
        cells = [line.label, figure(line.base), figure(line.tuned), signed(line.difference)]
        rows.append(_row([*cells, figure(line.champion)] if with_champion else cells))
    return "\n".join([_row(["", *names]), "|---|" + "---:|" * len(names), *rows])


def intervals_table(evidence: EvidenceView) -> str:
    """How sure each difference is, as a Markdown table; empty where nothing was compared."""
    if not evidence.comparisons:
        return ""
    confidence = percent(evidence.comparisons[0].confidence)
    head = _row(["tuned against", "better by", f"{confidence} interval", "won, lost, even", "p"])
    return "\n".join([head, "|---|---:|---:|---:|---:|", *map(_comparison, evidence.comparisons)])


def checks_table(evidence: EvidenceView) -> str:
    """Every check and what it found, as a Markdown table."""
    rows = [
        _row([check.name, check.outcome if check.passed else "**failed**", check.detail]) for check in evidence.checks
    ]
    return "\n".join([_row(["check", "", "what was found"]), "|---|---|---|", *rows])


def _comparison(one: Comparison) -> str:
    ends = "" if one.lower is None or one.upper is None else f"{figure(one.lower)} to {figure(one.upper)}"
    counts = f"{one.wins}, {one.losses}, {one.ties}"
    name = f"the {one.against}, {LABELS[one.metric]}"
    return _row([name, signed(one.difference), ends, counts, probability(one.p_value).removeprefix("= ")])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
