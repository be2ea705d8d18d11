"""The check `mask`: some tokens carried loss in training."""

from loraline.evidence.schema import Check, Findings
from loraline.gate.measurements import Measurements
from loraline.gate.wording import make_check, not_made


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that the loss mask is not empty, neither in all of training nor in the sample rows."""
    training, mask = findings.training, findings.mask
    if training is None or mask is None:
        return make_check("mask", not_made(findings, "training" if training is None else "mask"))
    # A sample that was cut may end before its answer begins, and then it shows nothing.
    whole = [sample.tokens for sample in mask.samples if len(sample.tokens) >= sample.length]
    faults = []
    if training.labelled_tokens <= 0 or (whole and not any(token.loss for tokens in whole for token in tokens)):
        faults.append("no token carried loss in training: the mask is empty")
    return make_check("mask", faults, f"{training.labelled_tokens:,} of {training.tokens:,} tokens carried loss")
