"""The check `weights`: what was evaluated is what is registered, the merged model, and the base in the same way."""

from loraline.evidence.schema import Check, Findings, PartName
from loraline.gate.measurements import Measurements
from loraline.gate.wording import make_check, not_made


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check that the tuned model's evaluation is of the merged weights, held in memory as the base's were."""
    base, tuned, merge = findings.base, findings.tuned, findings.merge
    if base is None or tuned is None or merge is None:
        missing: PartName = "base" if base is None else "tuned" if tuned is None else "merge"
        return make_check("weights", not_made(findings, missing))
    evaluated = tuned.weights
    faults = []
    if evaluated.merged_digest is None:
        faults.append("the tuned model was not evaluated as its merged weights, which are what is registered")
    elif evaluated.merged_digest != merge.merged_digest:
        faults.append(
            f"the merged model that was evaluated has the digest {evaluated.merged_digest[:12]}, and the one that the "
            f"merge wrote {merge.merged_digest[:12]}"
        )
    if base.weights.held != evaluated.held:
        faults.append(
            f"the base was evaluated in {base.weights.held} and the tuned model in {evaluated.held}: evaluate both on "
            "the same kind of device"
        )
    return make_check("weights", faults, f"evaluated as {evaluated.describe()}{_remarks(findings)}")


def _remarks(findings: Findings) -> str:
    """What a reader has to know of how the models were held."""
    assert findings.tuned is not None
    evaluated = findings.tuned.weights
    champion = findings.evaluation("champion")
    remarks = "" if evaluated.quantization == "none" else ": the device cannot hold in 16 bit what is registered"
    if champion and champion.weights.held != evaluated.held:
        remarks += f"; the champion in {champion.weights.held}"
    return remarks
