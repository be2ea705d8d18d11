"""What serving can have against a model: prompts other than those it learned, weights other than those judged."""

from loraline.evidence.schema import Check, Findings
from loraline.gate.wording import check, ids, missing, number, part, unmeasured

_MASK = "the mask's sample (mask.json)"
_EXAMPLES = "the list of scored examples (examples.jsonl)"
_MERGE = "the merge's report (parity.json)"
_TUNED = "the tuned model's evaluation"
# Base and tuned are scored on the same examples, so that no two sources are left uncompared.
_COMPARED = (("training", _TUNED), ("the base's evaluation", _TUNED), ("serving", _TUNED), ("training", "serving"))


def template(findings: Findings) -> Check:
    """Training, evaluation and serving must turn the same conversation into the same tokens."""
    needed = {_MASK: findings.mask, _EXAMPLES: findings.examples, _MERGE: findings.merge}
    if lacking := [missing(name) for name, there in needed.items() if not there]:
        return check("template", lacking, "")
    if all(example.prompt is None for example in findings.examples):
        return unmeasured("template", "the rows are plain text, to which no template is applied")
    trained, served = (part(report, "prompts") for report in (findings.mask, findings.merge))
    base, tuned = (_evaluated(findings, side) for side in ("base", "tuned"))
    sources = {"training": trained, "the base's evaluation": base, _TUNED: tuned, "serving": served}
    faults = [f"{name} names no prompt" for name, prompts in sources.items() if not prompts]
    for one, other in _COMPARED:
        if sources[one] and sources[other]:
            faults += _unlike(one, sources[one], other, sources[other])
    compared = (trained.keys() | served.keys()) & tuned.keys()
    return check(
        "template", faults, f"{len(compared)} prompts have the same tokens in training, evaluation and serving"
    )


def _unlike(one: str, ours: dict[str, str], other: str, theirs: dict[str, str]) -> list[str]:
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return [f"{one} and {other} have no prompt in common"]
    if apart := [name for name in shared if ours[name] != theirs[name]]:
        return [f"{len(apart)} of {len(shared)} prompts have other tokens in {one} than in {other} ({ids(apart)})"]
    return []


def merge(findings: Findings) -> Check:
    """What is registered is the merged model, so that it has to be the one that was evaluated."""
    report = findings.merge
    if not report:
        return check("merge", [missing(_MERGE)], "")
    if report.get("examples") == 0:
        return check("merge", ["parity was not measured: there were no rows to compare the merged model on"], "")
    faults = []
    apart, tolerance = number(report, "max_abs_logit_difference"), number(report, "tolerance")
    if apart is None or tolerance is None:
        faults.append(f"the merge was not compared: largest difference {apart}, tolerance {tolerance}")
    elif apart > tolerance:
        faults.append(
            "the merged model differs from the adapter on its base by up to "
            f"{apart:.4g} in a logit, more than the tolerance of {tolerance:g}"
        )
    divergence, budget = number(report, "kl_divergence", "max"), number(report, "max_kl_divergence")
    if divergence is None or budget is None:
        faults.append(f"the merge's distributions were not compared: KL divergence {divergence}, budget {budget}")
    elif divergence > budget:
        faults.append(
            f"the merged model's distribution is up to {divergence:.4g} nats (KL) from the adapter's on its base, "
            f"more than merge.max_kl_divergence = {budget:g}"
        )
    faults += [*_generations(findings), *_bases(findings)]
    if faults:
        return check("merge", faults, "")
    return check(
        "merge",
        [],
        f"the merged model equals the adapter on its base within {apart:.3g} in any logit (tolerance {tolerance:g}), "
        f"within {divergence:.3g} nats in any distribution (budget {budget:g}), and writes the same",
    )


def _evaluated(findings: Findings, side: str) -> dict[str, str]:
    scored = {example.id: getattr(example, side).prompt_digest for example in findings.examples}
    return {id_: digest for id_, digest in scored.items() if digest is not None}


def _generations(findings: Findings) -> list[str]:
    """Greedy decoding must give the same text, but where two tokens were as likely as rounding can tell."""
    examples, equal, ties = (number(findings.merge, "greedy", name) for name in ("examples", "equal", "ties"))
    if not examples or equal is None or ties is None:
        return ["the merged model's generations were not compared with those of the adapter on its base"]
    if equal + ties < examples:
        return [
            f"the merged model writes something else than the adapter on its base in "
            f"{examples - equal - ties:.0f} of {examples:.0f} greedy generations"
        ]
    return []


def _bases(findings: Findings) -> list[str]:
    trained_on, merged_into = ((part or {}).get("base_digest") for part in (findings.training, findings.merge))
    if not trained_on or not merged_into:
        step = "merge" if trained_on else "training"
        return [f"the {step}'s report does not name its base"]
    if trained_on != merged_into:
        return [f"the adapter was trained on the base {trained_on[:12]} and merged into another, {merged_into[:12]}"]
    return []
