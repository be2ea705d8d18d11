"""How checks read figures and say what they found."""

import math
from collections.abc import Sequence
from typing import Any

from loraline.evidence.schema import Check, Comparison

NAMES = {"loss": "loss", "exact_match": "exact match", "token_f1": "token F1", "rouge_l": "ROUGE-L"}
TESTS = {"mcnemar": "McNemar's exact test", "sign": "exact sign test"}
_SHOWN_IDS = 3
_ROUNDING = 1e-9  # 0.2 - 0.15 is a little more than 0.05 in floating point


def check(name: str, faults: Sequence[str], otherwise: str) -> Check:
    """A check that passes where there is no fault, and then says what was found."""
    return Check(name=name, passed=not faults, detail="; ".join(faults) or otherwise)


def unmeasured(name: str, why: str) -> Check:
    """A check for which there is nothing to measure."""
    return Check(name=name, passed=True, measured=False, detail=f"not measured: {why}")


def missing(part: str) -> str:
    """What stands in place of a check whose part is not there."""
    return f"not made: {part} is missing or unreadable"


def number(values: Any, *path: str) -> float | None:
    """A figure by its path in nested values, if it is there and is a finite number."""
    *parts, last = path
    value = part(values, *parts).get(last)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def part(values: Any, *path: str) -> dict[str, Any]:
    """A part by its path in nested values; empty where there is none, or something else."""
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def above(value: float, limit: float) -> bool:
    """Whether a value is above a limit by more than rounding."""
    return value > limit + _ROUNDING


def ids(found: Sequence[str]) -> str:
    """Some ids, and that there are more."""
    return ", ".join(found[:_SHOWN_IDS]) + (", ..." if len(found) > _SHOWN_IDS else "")


def interval(lower: float, upper: float, confidence: float) -> str:
    """An interval, as in `95% interval 0.1 to 0.2`."""
    return f"{100 * confidence:.6g}% interval {lower:.4g} to {upper:.4g}"


def change(metric: str, other: float, tuned: float) -> str:
    """How a figure changed, as in `loss fell from 2.9 to 0.2`."""
    if other == tuned:
        return f"{NAMES[metric]} stayed at {tuned:.4g}"
    return f"{NAMES[metric]} {'rose' if tuned > other else 'fell'} from {other:.4g} to {tuned:.4g}"


def test(compared: Comparison) -> str:
    """The outcome of a comparison's test."""
    split = f"{compared.wins} won, {compared.losses} lost, {compared.ties} even"
    return f"{split}; {TESTS[compared.test]}: p = {compared.p_value:.2g}"


def asked(lineage: dict[str, Any], section: str, field: str) -> Any:
    """A setting of the recipe, as the lineage has it; None where it has none."""
    return part(lineage, "recipe", section).get(field)
