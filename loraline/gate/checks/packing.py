"""The check `packing`: sequences that were packed into one row do not see one another."""

from loraline.evidence.schema import Check, Findings
from loraline.gate.measurements import Measurements
from loraline.gate.wording import make_check, not_made, not_measured


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that packed sequences have the losses that they have alone."""
    if findings.training is None:
        return make_check("packing", not_made(findings, "training"))
    report = findings.training.packing
    if report is None:
        return not_measured("packing", "rows were padded, not packed")
    difference, tolerance = report.max_difference, report.tolerance
    if difference is None or report.rows <= 0:
        return make_check(
            "packing",
            [f"packed rows were not compared: difference {difference} over {report.rows} rows, tolerance {tolerance}"],
        )
    fault = f"a row's loss is {difference:.4g} nats a token from what it is alone, more than the tolerance of "
    return make_check(
        "packing",
        [f"{fault}{tolerance:g}"] if difference > tolerance else [],
        f"{report.rows} rows packed together have the losses that they have alone, to within {difference:.3g} nats a "
        f"token (tolerance {tolerance:g})",
    )
