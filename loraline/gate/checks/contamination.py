"""The check `contamination`: few enough held-out rows are copied, or nearly so, in the rows to train on."""

from loraline.artifacts.dataset import DatasetReport
from loraline.evidence.schema import Check, Findings
from loraline.gate.measurements import Measurements
from loraline.gate.wording import is_above, make_check, not_made, some_ids


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check both fractions against gate.max_contamination."""
    report, threshold = findings.data, findings.thresholds.max_contamination
    if report is None:
        return make_check("contamination", not_made(findings, "data"))
    held_out, copied, near = report.contamination.eval_examples, report.contamination.contaminated, _near(report)
    if held_out <= 0:
        return make_check("contamination", ["no held-out row was compared with the rows to train on"])
    ids = report.contamination.ids
    which = f" ({some_ids(ids)})" if ids else ""
    found = [
        f"{copied:,} of {held_out:,} held-out rows are copied in training rows, "
        f"fraction {copied / held_out:.4g}{which}",
        f"{near:,} training rows nearly repeat one of them, fraction {near / held_out:.4g}",
    ]
    limit = f"gate.max_contamination = {threshold:g}"
    faults = [
        f"{sentence}: more than {limit}"
        for sentence, count in zip(found, (copied, near), strict=True)
        if is_above(count / held_out, threshold)
    ]
    return make_check("contamination", faults, f"{'; '.join(found)}: within {limit}")


def is_contaminated(findings: Findings) -> bool:
    """Whether any held-out row is copied, or nearly so, in the training rows, within the threshold or not."""
    report = findings.data
    return report is not None and bool(report.contamination.contaminated or _near(report))


def _near(report: DatasetReport) -> int:
    """Rows to train on that nearly repeat a held-out row and were not dropped for that."""
    near = report.near_duplicates
    return 0 if near.action == "drop" else near.across
