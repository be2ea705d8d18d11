"""The tuned model against base and champion, metric by metric; and whether that is a gain."""

import math
from typing import Literal, get_args

from loraline.evidence.schema import Check, Comparison, Findings, MetricName, PairedExample, Pairing, Scored, Thresholds
from loraline.evidence.statistics import RESAMPLES, fewest_decisive, paired_bootstrap, sign_test
from loraline.gate.wording import NAMES, above, change, check, ids, interval, missing, number, test, unmeasured

Against = Literal["base", "champion"]
Side = Literal["base", "tuned", "champion"]
_SIDES = {"base": "base", "tuned": "tuned model", "champion": "champion"}


def compare(findings: Findings, against: Against, confidence: float) -> list[Comparison]:
    """Compare the tuned model with another on every metric that both have."""
    made = (_comparison(findings.examples, against, metric, confidence) for metric in get_args(MetricName))
    return [one for one in made if one]


def gain(findings: Findings, held_to: Thresholds, compared: Comparison | None) -> Check:
    """The tuned model must be better than the base, by more than chance and by more than the recipe's minimum."""
    if not findings.base or not findings.tuned:
        side = "tuned model" if findings.base else "base"
        return check("gain", [missing(f"the {side}'s evaluation")], "")
    faults = [
        *pairing_faults(findings.pairing.get("base"), "base"),
        *_figures(findings, "base", held_to.metric),
        *_figures(findings, "tuned", held_to.metric),
        *_examples(findings, "base", held_to),
        *_tokens(findings),
    ]
    if compared is None or compared.difference is None or faults:
        return check("gain", faults or [f"the gain in {NAMES[held_to.metric]} cannot be told"], "")
    said = f"{_said(findings, 'base', compared)}: a gain of {compared.difference:.4g}"
    if compared.lower is None or compared.upper is None:
        return check("gain", [f"{said}, on one example, which gives no interval"], "")
    said = f"{said} ({interval(compared.lower, compared.upper, compared.confidence)}; {test(compared)})"
    limit = f"gate.min_gain = {held_to.min_gain:g}"
    if not above(compared.lower, held_to.min_gain):
        faults = [f"{said}, whose lower end is not above {limit}"]
    elif doubt := _doubt(compared):
        faults = [f"{said}: {doubt}"]
    return check("gain", faults, f"{said}, whose lower end is above {limit}")


def champion(findings: Findings, held_to: Thresholds, compared: Comparison | None) -> Check:
    """The tuned model must not be worse than the champion, where there is one, by more than the margin."""
    if findings.has_champion is False:
        return unmeasured("champion", "there is no champion yet")
    if not findings.has_champion or not findings.champion:
        return check("champion", [missing("the champion's evaluation")], "")
    name = f"the champion, version {findings.champion.get('version')}"
    faults = [
        *pairing_faults(findings.pairing.get("champion"), "champion"),
        *_figures(findings, "champion", held_to.metric),
        *_figures(findings, "tuned", held_to.metric),
        *_examples(findings, "champion", held_to),
    ]
    if compared is None or compared.difference is None or compared.lower is None or compared.upper is None or faults:
        return check("champion", [f"not held against {name}: {'; '.join(faults) or 'no figure to compare'}"], "")
    said = (
        f"against {name}: {_said(findings, 'champion', compared)}, a difference of {compared.difference:.4g} "
        f"({interval(compared.lower, compared.upper, compared.confidence)})"
    )
    if held_to.metric == "loss" and _otherwise_cut(findings, "champion"):
        said += " for each token of the tuned model, as the champion has another tokenizer"
    margin = f"-gate.champion_margin = {-held_to.champion_margin:g}"
    if not above(compared.lower, -held_to.champion_margin):
        faults = [f"{said}, whose lower end is not above {margin}"]
    return check("champion", faults, f"{said}, whose lower end is above {margin}")


def pairing_faults(pairing: Pairing | None, side: str, what: str = "examples") -> list[str]:
    """Both sides must have been asked the same, in the same order."""
    if pairing is None:
        return [f"nobody says whether {side} and tuned were scored on the same {what}"]
    faults = []
    if odd := sorted({*pairing.tuned_only, *pairing.other_only}):
        faults.append(
            f"{side} and tuned were not scored on the same {what}: {len(pairing.other_only)} only by the {side}, "
            f"{len(pairing.tuned_only)} only by the tuned model ({ids(odd)})"
        )
    if pairing.repeated:
        faults.append(f"{len(pairing.repeated)} {what} of {side} and tuned stand there twice ({ids(pairing.repeated)})")
    if not pairing.same_order:
        faults.append(f"{side} and tuned were not scored on the {what} in the same order")
    return faults


def _comparison(
    examples: list[PairedExample], against: Against, metric: MetricName, confidence: float
) -> Comparison | None:
    pairs = [
        (example.id, other, example.tuned)
        for example in examples
        if (other := getattr(example, against)) and _is_scored(other, metric) and _is_scored(example.tuned, metric)
    ]
    if not pairs:
        return None
    names = [id_ for id_, _, _ in pairs]
    others, tuned = ([float(getattr(pair[side], metric)) for pair in pairs] for side in (1, 2))
    # The nats of a text are its own, whatever tokens it is cut into. Over the tuned model's tokens on both sides they
    # compare a champion of another tokenizer too; with the same tokenizer it is the difference of losses a token.
    weights = [own.tokens for _, _, own in pairs] if metric == "loss" else None
    better = (others, tuned) if metric == "loss" else (tuned, others)
    found = paired_bootstrap(names, *better, weights=weights, confidence=confidence)
    tested = sign_test([one - other for one, other in zip(*better, strict=True)])
    return Comparison(
        against=against,
        metric=metric,
        examples=len(pairs),
        difference=found.difference,
        lower=found.lower,
        upper=found.upper,
        confidence=confidence,
        resamples=RESAMPLES,
        test="mcnemar" if metric == "exact_match" else "sign",
        wins=tested.wins,
        losses=tested.losses,
        ties=tested.ties,
        p_value=tested.p_value,
    )


def _is_scored(scored: Scored, metric: str) -> bool:
    value = getattr(scored, metric)
    return value is not None and math.isfinite(value) and (metric != "loss" or scored.tokens > 0)


def _figures(findings: Findings, side: Side, decides: str) -> list[str]:
    """The figure that decides must be there, and all that a side states must be what its examples come to."""
    stated = getattr(findings, side) or {}
    scored = [own for example in findings.examples if (own := getattr(example, side))]
    faults = []
    if number(stated, decides) is None:
        faults.append(f"the {NAMES[decides]} of the {_SIDES[side]} is not a number: {stated.get(decides)!r}")
    broken = [example.id for example in findings.examples if _lacks(getattr(example, side), "loss")]
    if broken:
        faults.append(f"the loss of the {_SIDES[side]} is not a number on {len(broken)} examples ({ids(broken)})")
    # Where some of its examples have no partner, its figures rest on more than stands here; that is a fault already.
    if faults or any(_is_odd(findings.pairing.get(other)) for other in ("base", side)):
        return faults
    for metric in get_args(MetricName):
        figure, computed = number(stated, metric), _mean(metric, scored)
        if figure is not None and (computed is None or not math.isclose(figure, computed, rel_tol=1e-6, abs_tol=1e-9)):
            come_to = "none" if computed is None else f"{computed:.6g}"
            faults.append(
                f"the {NAMES[metric]} of the {_SIDES[side]} is stated as {figure:.6g}, but its examples give {come_to}"
            )
    return faults


def _is_odd(pairing: Pairing | None) -> bool:
    return pairing is not None and bool(pairing.tuned_only or pairing.other_only or pairing.repeated)


def _lacks(scored: Scored | None, metric: str) -> bool:
    return scored is None or not _is_scored(scored, metric)


def _mean(metric: str, scored: list[Scored]) -> float | None:
    """The figure that examples come to, as an evaluation computes it."""
    there = [own for own in scored if _is_scored(own, metric)]
    weight = sum(own.tokens for own in there) if metric == "loss" else len(there)
    return math.fsum(getattr(own, metric) for own in there) / weight if weight else None


def _examples(findings: Findings, against: Against, held_to: Thresholds) -> list[str]:
    """Enough examples must have a figure, and each on both sides or on none."""
    metric = held_to.metric
    lacking = [
        (example.id, _lacks(getattr(example, against), metric), _lacks(example.tuned, metric))
        for example in findings.examples
    ]
    scored = sum(not other and not tuned for _, other, tuned in lacking)
    one_sided = [id_ for id_, other, tuned in lacking if other != tuned]
    faults = []
    if one_sided:
        faults.append(
            f"{len(one_sided)} examples have a figure for {NAMES[metric]} on one side only ({ids(one_sided)})"
        )
    if scored < held_to.min_examples:
        faults.append(
            f"{scored} examples have a figure for {NAMES[metric]} on both sides, "
            f"fewer than gate.min_examples = {held_to.min_examples}"
        )
    return faults


def _otherwise_cut(findings: Findings, against: Against) -> list[str]:
    """Ids of the examples that another model cuts into another number of labelled tokens."""
    return [
        example.id
        for example in findings.examples
        if (other := getattr(example, against)) and other.tokens != example.tuned.tokens
    ]


def _tokens(findings: Findings) -> list[str]:
    """Base and tuned have one tokenizer, so that each example has to have as many labelled tokens for both."""
    odd = _otherwise_cut(findings, "base")
    return [f"{len(odd)} examples have other labelled tokens for the base than for tuned ({ids(odd)})"] if odd else []


def _said(findings: Findings, against: Against, compared: Comparison) -> str:
    other, tuned = (number(getattr(findings, side), compared.metric) for side in (against, "tuned"))
    assert other is not None
    assert tuned is not None
    return f"{change(compared.metric, other, tuned)} on {compared.examples} held-out examples"


def _doubt(compared: Comparison) -> str:
    """Why an interval above the minimum is not enough: where few examples differ, resampling knows too few outcomes.

    Four examples won and none lost put the whole interval above zero, and chance alone does that once in eight.
    """
    allowed = 1 - compared.confidence
    if compared.test == "mcnemar" and compared.p_value > allowed:
        return f"{compared.wins} won and {compared.losses} lost can be chance, p must be at most {allowed:.4g}"
    decided, fewest = compared.wins + compared.losses, fewest_decisive(compared.confidence)
    if decided < fewest:
        return f"only {decided} examples differ, and fewer than {fewest} can always be chance"
    return ""
