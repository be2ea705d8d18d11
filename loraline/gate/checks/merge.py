"""The check `merge`: the merged model, which is what is registered, has the effect of the trained adapter."""

from loraline.artifacts.merging import GreedyReport, MergeReport
from loraline.evidence.schema import Check, Findings
from loraline.gate.measurements import Measurements
from loraline.gate.wording import make_check, not_made


def check(findings: Findings, measurements: Measurements) -> Check:
    """Check how much of the adapter's effect the merged model has, how far it is from it, and their base."""
    report = findings.merge
    if report is None:
        return make_check("merge", not_made(findings, "merge"))
    if report.examples <= 0:
        return make_check("merge", ["parity was not measured: there were no rows to compare the merged model on"])
    faults = [*_effect_faults(report), *_divergence_faults(report), *_greedy_faults(report.greedy)]
    faults += _base_faults(findings, report.base_digest)
    detail = ""
    if not faults and report.greedy:
        mean, high = report.relative_divergences
        detail = (
            f"the merged model has {report.effect_kept:.3f} of the adapter's effect (within "
            f"{report.max_effect_change:g} of 1) and diverges from it by {mean:.2g} of what the adapter changes, "
            f"{high:.2g} at the 99th percentile (threshold {report.max_divergence:g}); it writes the same in "
            f"{report.greedy.equal + report.greedy.ties} of {report.greedy.examples} greedy answers"
        )
    return make_check("merge", faults, detail)


def _effect_faults(report: MergeReport) -> list[str]:
    """The merged model must have the adapter's effect, neither more nor less."""
    kept = report.effect_kept
    if kept is None:
        return ["the merged model was not compared with the adapter on its base, or the adapter has no effect"]
    if abs(kept - 1) > report.max_effect_change:
        limit = f"merge.max_effect_change = {report.max_effect_change:g}"
        return [f"the merged model has {kept:.3g} of the adapter's effect, farther from 1 than {limit}"]
    return []


def _divergence_faults(report: MergeReport) -> list[str]:
    """What separates the merged model from the adapter on its base must be small beside what the adapter changes."""
    limit = f"merge.max_divergence = {report.max_divergence:g}"
    faults = []
    for name, value in zip(("on average", "at the 99th percentile"), report.relative_divergences, strict=True):
        if value is None:
            faults.append(f"the merged model's divergence was not compared with the adapter's own {name}")
        elif value > report.max_divergence:
            faults.append(
                f"the merged model diverges from the adapter on its base by {value:.3g} {name} of what the adapter "
                f"changes, more than {limit}"
            )
    return faults


def _greedy_faults(greedy: GreedyReport | None) -> list[str]:
    """Greedy answers are shown and decide nothing: one near tie early on changes all that follows."""
    if greedy is None or greedy.examples <= 0:
        return ["the merged model's generations were not compared with those of the adapter on its base"]
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
