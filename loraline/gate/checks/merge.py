"""The check `merge`: the merged model, which is what is registered, equals the model that was evaluated."""

from loraline.artifacts.merging import GreedyReport
from loraline.evidence.schema import Check, Findings
from loraline.gate.measurements import Measurements
from loraline.gate.wording import make_check, not_made


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check logits, next-token distributions and greedy answers of merged model and adapter on base, and their base."""
    report = findings.merge
    if report is None:
        return make_check("merge", not_made(findings, "merge"))
    if report.examples <= 0:
        return make_check("merge", ["parity was not measured: there were no rows to compare the merged model on"])
    faults = []
    logits, tolerance = report.max_abs_logit_difference, report.tolerance
    if logits is None:
        faults.append(f"the merge was not compared: largest difference {logits}, tolerance {tolerance}")
    elif logits > tolerance:
        faults.append(
            "the merged model differs from the adapter on its base by up to "
            f"{logits:.4g} in a logit, more than the tolerance of {tolerance:g}"
        )
    divergence = report.kl_divergence.max if report.kl_divergence else None
    threshold = report.max_kl_divergence
    if divergence is None:
        faults.append(f"the merge's distributions were not compared: KL divergence {divergence}")
    elif divergence > threshold:
        faults.append(
            f"the merged model's distribution is up to {divergence:.4g} nats (KL) from the adapter's on its base, "
            f"more than merge.max_kl_divergence = {threshold:g}"
        )
    faults += [*_greedy_faults(report.greedy), *_base_faults(findings, report.base_digest)]
    detail = ""
    if not faults:
        detail = (
            f"the merged model equals the adapter on its base within {logits:.3g} in any logit (tolerance "
            f"{tolerance:g}), within {divergence:.3g} nats in any distribution (threshold {threshold:g}), and writes "
            "the same"
        )
    return make_check("merge", faults, detail)


def _greedy_faults(greedy: GreedyReport | None) -> list[str]:
    """Greedy decoding must give the same text, but where two tokens are equally likely to within rounding."""
    if greedy is None or greedy.examples <= 0:
        return ["the merged model's generations were not compared with those of the adapter on its base"]
    different = greedy.examples - greedy.equal - greedy.ties
    if different > 0:
        return [
            f"the merged model writes something else than the adapter on its base in "
            f"{different} of {greedy.examples} greedy generations"
        ]
    return []


def _base_faults(findings: Findings, merged_into: str) -> list[str]:
    if findings.training is None:
        return not_made(findings, "training")
    trained_on = findings.training.base_digest
    if not trained_on or not merged_into:
        return [f"the {'merge' if trained_on else 'training'}'s report does not name its base"]
    if trained_on != merged_into:
        return [f"the adapter was trained on the base {trained_on[:12]} and merged into another, {merged_into[:12]}"]
    return []
