"""What training can have against its adapter: a mask that hides everything, a loss that broke, rows that mixed."""

from loraline.evidence.schema import Check, Findings
from loraline.gate.wording import check, missing, number, unmeasured

_REPORT = "the training's report (training.json)"


def mask(findings: Findings) -> Check:
    """Some tokens must have carried loss."""
    if not findings.training:
        return check("mask", [missing(_REPORT)], "")
    if not findings.mask:
        return check("mask", [missing("the mask's sample (mask.json)")], "")
    labelled, tokens = (number(findings.training, name) for name in ("labelled_tokens", "tokens"))
    if labelled is None:
        return check("mask", ["the training's report does not say how many tokens carried loss"], "")
    # A sample that was cut may end before its answer begins, and then says nothing.
    samples = findings.mask.get("samples") or []
    whole = [sample["tokens"] for sample in samples if len(sample["tokens"]) >= sample.get("length", 0)]
    faults = []
    if labelled == 0 or (whole and not any(token["loss"] for row in whole for token in row)):
        faults.append("no token carried loss in training: the mask is empty")
    of = f" of {tokens:,.0f}" if tokens else ""
    return check("mask", faults, f"{labelled:,.0f}{of} tokens carried loss")


def packing(findings: Findings) -> Check:
    """Rows that were packed together must have the losses that they have alone."""
    if not findings.training:
        return check("packing", [missing(_REPORT)], "")
    if "packing" not in findings.training:
        return check("packing", ["the training's report does not say whether rows were packed"], "")
    report = findings.training["packing"]
    if report is None:
        return unmeasured("packing", "rows were padded, not packed")
    apart, tolerance, rows = (number(report, name) for name in ("max_difference", "tolerance", "rows"))
    if apart is None or tolerance is None or not rows:
        return check("packing", [f"packed rows were not compared: difference {apart}, tolerance {tolerance}"], "")
    said = f"{rows:.0f} rows packed together have the losses that they have alone, to within {apart:.3g} nats a token"
    wrong = f"a row's loss is {apart:.4g} nats a token from what it is alone, more than the tolerance of {tolerance:g}"
    return check("packing", [wrong] if apart > tolerance else [], f"{said} (tolerance {tolerance:g})")


def training(findings: Findings) -> Check:
    """The loss must have stayed a number, and the adapter must have got a gradient."""
    if not findings.training:
        return check("training", [missing(_REPORT)], "")
    steps = [point for point in findings.training.get("history") or [] if "loss" in point]
    if not steps:
        return check("training", ["training took no step"], "")
    faults = []
    broken = [point.get("step") for point in steps if number(point, "loss") is None]
    if broken:
        faults.append(
            f"the training loss was not a number in {len(broken)} of {len(steps)} steps, first in {broken[0]}"
        )
    if not any(number(point, "gradient_norm") for point in steps):
        faults.append(f"the adapter's gradient never moved from zero in {len(steps)} steps")
    if faults:
        return check("training", faults, "")
    first, last = steps[0]["loss"], steps[-1]["loss"]
    return check(
        "training", [], f"{len(steps)} steps, each with a loss and a gradient; loss from {first:.4g} to {last:.4g}"
    )
