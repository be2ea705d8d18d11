"""The check `data`: the dataset has rows to train on and held-out rows."""

from loraline.evidence.schema import Check, Findings
from loraline.gate.measurements import Measurements
from loraline.gate.wording import make_check, not_made


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that both sides of the split have rows."""
    report = findings.data
    if report is None:
        return make_check("data", not_made(findings, "data"))
    train, held_out = report.rows.train, report.rows.eval
    faults = [
        f"the dataset has no rows {purpose}"
        for count, purpose in ((train, "to train on"), (held_out, "held out"))
        if count <= 0
    ]
    if not report.fingerprint:
        faults.append("the dataset's report names no fingerprint")
    return make_check(
        "data", faults, f"{train:,} rows to train on, {held_out:,} held out, dataset {report.fingerprint[:12]}"
    )
