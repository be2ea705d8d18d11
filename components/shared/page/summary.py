"""The evidence in a few lines of Markdown."""

from components.shared.evidence import Evidence
from components.shared.page.words import comparisons, figure, signed


def to_markdown(evidence: Evidence) -> str:
    """Verdict, reasons and the table base against tuned."""
    reasons = "\n".join(f"- {reason}" for reason in evidence.verdict.reasons)
    return f"## {evidence.verdict.verdict.capitalize()}\n\n{reasons}\n\n{figures_table(evidence)}\n"


def figures_table(evidence: Evidence) -> str:
    """Base against tuned, as a Markdown table."""
    rows = [
        f"| {line.label} | {figure(line.base)} | {figure(line.tuned)} | {signed(line.difference)} |"
        for line in comparisons(evidence)
    ]
    return "\n".join(["| | base | tuned | change |", "|---|---:|---:|---:|", *rows])
