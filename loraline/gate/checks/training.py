"""The check `training`: the loss stayed a number, and the adapter got a gradient."""

from loraline.evidence.schema import Check, Findings
from loraline.gate.measurements import Measurements
from loraline.gate.wording import make_check, not_made


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that every step has a finite loss, and at least one a gradient above zero."""
    if findings.training is None:
        return make_check("training", not_made(findings, "training"))
    steps = [point for point in findings.training.history if point.step > 0]
    if not steps:
        return make_check("training", ["training took no step"])
    faults = []
    without_loss = [point.step for point in steps if point.loss is None]
    if without_loss:
        faults.append(
            f"the training loss was not a number in {len(without_loss)} of {len(steps)} steps, first in "
            f"{without_loss[0]}"
        )
    if not any(point.grad_norm for point in steps):
        faults.append(f"the adapter's gradient never moved from zero in {len(steps)} steps")
    detail = ""
    if not faults:
        detail = f"{len(steps)} steps, each with a loss and a gradient; loss from {steps[0].loss:.4g} to "
        detail += f"{steps[-1].loss:.4g}"
    return make_check("training", faults, detail)
