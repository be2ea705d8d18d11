"""The check `content`: what the rows say is in the tokens that the model was trained on."""

from loraline.evidence.schema import Check, Findings
from loraline.gate.measurements import Measurements
from loraline.gate.wording import make_check, not_made


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that prompts and answers are found again in the tokens that they are encoded as."""
    if findings.data is None:
        return make_check("content", not_made(findings, "data"))
    report = findings.data.content
    if report.rows <= 0:
        return make_check("content", ["no row was encoded and decoded again"])
    prompts = f"{report.prompts - report.without_prompt:,} of {report.prompts:,} prompts and " if report.prompts else ""
    answers = f"{report.rows - report.without_answer:,} of {report.rows:,} {'answers' if prompts else 'texts'}"
    found = f"{prompts}{answers} were found again in the tokens of their rows"
    return make_check("content", [report.fault] if report.fault else [], found)
