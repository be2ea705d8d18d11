"""What can speak against a tuned model. Each check gives its reasons, in words and with figures; none raises."""

import math
from dataclasses import dataclass
from typing import Any

from components.gate.config import GateConfig
from components.shared.evidence import LOWER_IS_BETTER

NAMES = {"loss": "loss", "exact_match": "exact match", "token_f1": "token F1", "rouge_l": "ROUGE-L"}
_SHOWN_IDS = 3
_ROUNDING = 1e-9  # 0.2 - 0.15 is a little more than 0.05 in floating point


@dataclass(frozen=True)
class Findings:
    """What the steps wrote; None or empty where a file is missing or unreadable."""

    data: dict[str, Any] | None
    base: dict[str, Any] | None
    tuned: dict[str, Any] | None
    base_examples: list[dict[str, Any]]
    tuned_examples: list[dict[str, Any]]
    training: dict[str, Any] | None
    mask: dict[str, Any] | None
    merge: dict[str, Any] | None

    def gain(self, metric: str) -> float | None:
        """By how much the tuned model is better; None where a side is missing or not a number."""
        base, tuned = _number(self.base, metric), _number(self.tuned, metric)
        if base is None or tuned is None:
            return None
        return base - tuned if metric in LOWER_IS_BETTER else tuned - base

    def scored(self, metric: str) -> int:
        """Examples that both sides have a figure for."""
        of_base = {example.get("id") for example in self.base_examples if example.get(metric) is not None}
        return sum(e.get("id") in of_base and e.get(metric) is not None for e in self.tuned_examples)


def missing_parts(findings: Findings) -> list[str]:
    """Every part has to be there: what nobody looked at proves nothing."""
    parts = {
        "the dataset's report (report.json)": findings.data,
        "the base's evaluation (metrics.json)": findings.base,
        "the tuned model's evaluation (metrics.json)": findings.tuned,
        "the base's scored examples (examples.jsonl)": findings.base_examples,
        "the tuned model's scored examples (examples.jsonl)": findings.tuned_examples,
        "the training's report (training.json)": findings.training,
        "the mask's sample (mask.json)": findings.mask,
        "the merge's report (parity.json)": findings.merge,
    }
    return [f"{name} is missing or unreadable" for name, part in parts.items() if not part]


def examples(config: GateConfig, findings: Findings) -> list[str]:
    """Both sides must have been asked the same, and enough of it."""
    if not findings.base_examples or not findings.tuned_examples:
        return []
    base = {str(example.get("id")) for example in findings.base_examples}
    tuned = {str(example.get("id")) for example in findings.tuned_examples}
    reasons = []
    if base != tuned:
        odd = sorted(base ^ tuned)
        shown = ", ".join(odd[:_SHOWN_IDS]) + (", ..." if len(odd) > _SHOWN_IDS else "")
        reasons.append(
            f"base and tuned were not scored on the same examples: {len(base - tuned)} only by the base, "
            f"{len(tuned - base)} only by the tuned model ({shown})"
        )
    scored = findings.scored(config.metric)
    if scored < config.min_examples:
        reasons.append(
            f"{scored} examples have a figure for {NAMES[config.metric]} on both sides, "
            f"fewer than gate.min_examples = {config.min_examples}"
        )
    return reasons


def gain(config: GateConfig, findings: Findings) -> list[str]:
    """The tuned model must be better than the base by more than the recipe's minimum, by figures that add up."""
    if not findings.base or not findings.tuned:
        return []
    sides = {
        "base": (findings.base, findings.base_examples),
        "tuned model": (findings.tuned, findings.tuned_examples),
    }
    reasons = [
        reason for name, (figures, scored) in sides.items() for reason in _figure(config.metric, name, figures, scored)
    ]
    found = findings.gain(config.metric)
    if found is not None and found <= config.min_gain + _ROUNDING:
        reasons.append(
            f"{_change(config.metric, findings)}: a gain of {found:.4g}, not above gate.min_gain = {config.min_gain:g}"
        )
    return reasons


def _figure(metric: str, side: str, figures: dict[str, Any], scored: list[dict[str, Any]]) -> list[str]:
    """A side's figure must be a number, and be what its examples come to."""
    stated = _number(figures, metric)
    if stated is None:
        return [f"the {NAMES[metric]} of the {side} is not a number: {figures.get(metric)!r}"]
    computed = _mean(metric, scored)
    if computed is not None and not math.isclose(stated, computed, rel_tol=1e-6, abs_tol=1e-9):
        return [f"the {NAMES[metric]} of the {side} is stated as {stated:.6g}, but its examples give {computed:.6g}"]
    return []


def _mean(metric: str, scored: list[dict[str, Any]]) -> float | None:
    there = [example for example in scored if example.get(metric) is not None]
    values = [example[metric] for example in there]
    weight = sum(example.get("tokens", 0) for example in there) if metric == "loss" else len(values)
    return math.fsum(values) / weight if values and weight else None


def merge(findings: Findings) -> list[str]:
    """What is registered is the merged model, so that it has to be the one that was evaluated."""
    report = findings.merge
    if not report:
        return []
    apart, tolerance = _number(report, "max_abs_logit_difference"), _number(report, "tolerance")
    if apart is None or tolerance is None:
        return [f"the merge was not compared: largest difference {apart}, tolerance {tolerance}"]
    reasons = []
    if apart > tolerance:
        reasons.append(
            "the merged model differs from the adapter on its base by up to "
            f"{apart:.4g} in a logit, more than the tolerance of {tolerance:g}"
        )
    trained_on, merged_into = (findings.training or {}).get("base_digest"), report.get("base_digest")
    if trained_on and merged_into and trained_on != merged_into:
        reasons.append(
            f"the adapter was trained on the base {trained_on[:12]} and merged into another, {merged_into[:12]}"
        )
    return reasons


def mask(findings: Findings) -> list[str]:
    """Some tokens must have carried loss."""
    if not findings.training:
        return []
    labelled = _number(findings.training, "labelled_tokens")
    if labelled is None:
        return ["the training's report does not say how many tokens carried loss"]
    # A sample that was cut may end before its answer begins, and then says nothing.
    samples = (findings.mask or {}).get("samples") or []
    whole = [sample["tokens"] for sample in samples if len(sample["tokens"]) >= sample.get("length", 0)]
    if labelled == 0 or (whole and not any(token["loss"] for tokens in whole for token in tokens)):
        return ["no token carried loss in training: the mask is empty"]
    return []


def training(findings: Findings) -> list[str]:
    """The loss must have stayed a number, and the adapter must have got a gradient."""
    if not findings.training:
        return []
    steps = [point for point in findings.training.get("history") or [] if "loss" in point]
    if not steps:
        return ["training took no step"]
    reasons = []
    broken = [point.get("step") for point in steps if _number(point, "loss") is None]
    if broken:
        reasons.append(
            f"the training loss was not a number in {len(broken)} of {len(steps)} steps, first in {broken[0]}"
        )
    if not any(_number(point, "gradient_norm") for point in steps):
        reasons.append(f"the adapter's gradient never moved from zero in {len(steps)} steps")
    return reasons


def in_favour(config: GateConfig, findings: Findings) -> list[str]:
    """What speaks for a model that nothing speaks against."""
    assert findings.merge
    return [
        f"{_change(config.metric, findings)} on {findings.scored(config.metric)} held-out examples, "
        f"a gain of {findings.gain(config.metric):.4g}, above gate.min_gain = {config.min_gain:g}",
        "the merged model equals the adapter on its base within "
        f"{findings.merge['max_abs_logit_difference']:.3g} in any logit (tolerance {findings.merge['tolerance']:g})",
    ]


def _change(metric: str, findings: Findings) -> str:
    assert findings.base
    assert findings.tuned
    base, tuned = findings.base[metric], findings.tuned[metric]
    if base == tuned:
        return f"{NAMES[metric]} stayed at {tuned:.4g}"
    return f"{NAMES[metric]} {'rose' if tuned > base else 'fell'} from {base:.4g} to {tuned:.4g}"


def _number(values: dict[str, Any] | None, name: str) -> float | None:
    """A figure, if it is there and is a finite number."""
    value = (values or {}).get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
