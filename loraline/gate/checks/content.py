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
    return make_check(
        "content",
        [report.fault] if report.fault else [],
        f"{report.rows:,} rows decoded from their tokens: the prompt is there in "
        f"{report.rows - report.without_prompt:,}, the answer in {report.rows - report.without_answer:,}",
    )
