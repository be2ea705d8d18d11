"""Weigh findings: every check, every comparison, and the verdict that they come to.

It reads nothing but the findings, so that the bundle alone gives the same verdict again, to the bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from loraline.errors import ValidationError
from loraline.evidence.schema import Check, Comparison, Evidence, Findings, Forgetting, Thresholds, Verdict
from loraline.gate import data, safety, serving, training
from loraline.gate.comparisons import champion, compare, gain
from loraline.gate.forgetting import forgetting, measure
from loraline.gate.wording import check, part

_IN_FAVOUR = ("gain", "champion", "forgetting", "safety", "merge")


@dataclass(frozen=True)
class Weighing:
    """What follows from findings."""

    verdict: Verdict
    checks: list[Check]
    comparisons: list[Comparison]
    forgetting: Forgetting | None


def weigh(findings: Findings) -> Weighing:
    """Make every check, in the order of the page. One that fails is a reject; the same findings always weigh the same.

    Raises:
        ValidationError: the findings are of version 1, and do not say what they are held to.
    """
    held_to = findings.thresholds
    if held_to is None:
        raise ValidationError(
            "the evidence does not say what the model was held to: it is of version 1, which cannot be weighed again. "
            "Run the pipeline again"
        )
    against_base = compare(findings, "base", held_to.confidence)
    against_champion = compare(findings, "champion", held_to.confidence)
    decides = next((one for one in against_base if one.metric == held_to.metric), None)
    forgotten = measure(findings, held_to)
    questions: dict[str, Callable[[], Check]] = {
        "data": partial(data.data, findings),
        "mask": partial(training.mask, findings),
        "template": partial(serving.template, findings),
        "packing": partial(training.packing, findings),
        "training": partial(training.training, findings),
        "gain": partial(gain, findings, held_to, decides),
        "champion": partial(
            champion, findings, held_to, next((one for one in against_champion if one.metric == held_to.metric), None)
        ),
        "forgetting": partial(forgetting, findings, held_to, forgotten),
        "safety": partial(safety.safety, findings),
        "contamination": partial(data.contamination, findings, held_to),
        "merge": partial(serving.merge, findings),
        "completeness": partial(_completeness, findings, held_to),
    }
    checks = [_asked(name, question) for name, question in questions.items()]
    verdict = _verdict(findings, held_to, checks, decides)
    return Weighing(verdict, checks, against_base + against_champion, forgotten)


def reweigh(evidence: Evidence) -> Verdict:
    """The verdict that a stored bundle comes to; it is the one that stands there, or the bundle was altered.

    Raises:
        ValidationError: the evidence is of version 1, which does not say what the model was held to.
    """
    return weigh(evidence).verdict


def _asked(name: str, question: Callable[[], Check]) -> Check:
    """Ask a question; a report that is not shaped as its step writes it fails the check that reads it."""
    try:
        return question()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return check(name, [f"cannot be told: a report has another shape ({type(error).__name__}: {error})"], "")


def _verdict(findings: Findings, held_to: Thresholds, checks: list[Check], decides: Comparison | None) -> Verdict:
    by_name = {one.name: one for one in checks}
    against = [one.detail for one in checks if not one.passed]
    in_favour = [by_name[name].detail for name in _IN_FAVOUR]
    if not against and data.is_contaminated(findings):
        in_favour.append(by_name["contamination"].detail)
    return Verdict(
        verdict="reject" if against else "promote",
        reasons=against or in_favour,
        metric=held_to.metric,
        gain=decides.difference if decides else None,
        min_gain=held_to.min_gain,
        examples=decides.examples if decides else 0,
        lower=decides.lower if decides else None,
        upper=decides.upper if decides else None,
        confidence=held_to.confidence,
        p_value=decides.p_value if decides else None,
    )


def _completeness(findings: Findings, held_to: Thresholds) -> Check:
    """Every part has to be there, because what nobody looked at proves nothing; and the thresholds are the recipe's."""
    parts = {
        "the dataset's report (report.json)": findings.data,
        "the base's evaluation (metrics.json)": findings.base,
        "the tuned model's evaluation (metrics.json)": findings.tuned,
        "the champion's evaluation (metrics.json)": findings.has_champion is False
        or (findings.has_champion and findings.champion),
        "the list of scored examples (examples.jsonl) of base or tuned model": findings.examples,
        "the training's report (training.json)": findings.training,
        "the mask's sample (mask.json)": findings.mask,
        "the merge's report (parity.json)": findings.merge,
    }
    faults = [f"{name} is missing or unreadable" for name, part in parts.items() if not part]
    recipe = part(findings.lineage, "recipe", "gate")
    if recipe and (odd := _unlike(recipe, held_to)):
        faults.append(f"the model was held to other thresholds than the recipe sets: {', '.join(odd)}")
    return check("completeness", faults, f"all {len(parts)} parts are there")


def _unlike(recipe: dict[str, object], held_to: Thresholds) -> list[str]:
    return [
        f"gate.{name} = {recipe.get(name)!r}, held to {value!r}"
        for name, value in held_to.model_dump().items()
        if recipe.get(name) != value
    ]
