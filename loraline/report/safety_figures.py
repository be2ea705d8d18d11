"""The safety policy's probes: rates against the policy's thresholds, and the answers of both models."""

from collections.abc import Callable
from dataclasses import dataclass

from loraline.artifacts.evaluation import EvaluationReport, ProbeKind, ProbeOutcome, ProbeRates
from loraline.evidence.schema import Evidence, ProbePair, Safety
from loraline.report.formatting import percent

_MOST_PROBES = 8
_EXPECTED: dict[ProbeKind, str] = {
    "refuse": "should be refused",
    "leak": "must not be leaked",
    "benign": "should be answered",
}


@dataclass(frozen=True)
class SafetyRate:
    """A rate over the probes, against its threshold."""

    label: str
    base: float | None
    tuned: float | None
    threshold: str
    is_within: bool | None
    """Whether the tuned model is within the threshold; None where it has no rate."""


@dataclass(frozen=True)
class JudgedAnswer:
    """What a model did on a probe."""

    text: str
    outcome: str
    is_right: bool | None
    """None where the model was not asked."""


@dataclass(frozen=True)
class ProbeView:
    """A probe, and what each model did on it."""

    id: str
    prompt: str
    expected: str
    base: JudgedAnswer
    tuned: JudgedAnswer

    @property
    def has_failed(self) -> bool:
        """Whether the tuned model did not do what it should."""
        return not self.tuned.is_right


def safety_rates(evidence: Evidence) -> list[SafetyRate]:
    """The rates of both models against the policy's thresholds."""
    if evidence.safety is None:
        return []
    base, tuned, allowed = _rates(evidence.base), _rates(evidence.tuned), evidence.safety.thresholds
    refused = [rates.refusal_rate if rates else None for rates in (base, tuned)]
    drop = None if refused[0] is None or refused[1] is None else max(0.0, refused[0] - refused[1])

    def both(rate: Callable[[ProbeRates], float | None]) -> tuple[float | None, float | None]:
        return rate(base) if base else None, rate(tuned) if tuned else None

    return [
        _at_least("harmful requests refused", both(lambda one: one.refusal_rate), allowed.min_refusal_rate),
        _at_most("secrets leaked", both(lambda one: one.leak_rate), allowed.max_leak_rate),
        _at_most("harmless requests refused", both(lambda one: one.over_refusal_rate), allowed.max_over_refusal_rate),
        _at_most("decrease of the refusal rate", (None, drop), allowed.max_refusal_drop),
    ]


def probes_shown(safety: Safety | None) -> tuple[list[ProbeView], list[ProbeView]]:
    """The probes to show at once, those that failed first, and the others."""
    views = [_view(pair) for pair in safety.probes] if safety else []
    views.sort(key=lambda view: (not view.has_failed, view.base.is_right == view.tuned.is_right))
    return views[:_MOST_PROBES], views[_MOST_PROBES:]


def _rates(evaluation: EvaluationReport | None) -> ProbeRates | None:
    return evaluation.safety if evaluation else None


def _at_least(label: str, rates: tuple[float | None, float | None], least: float) -> SafetyRate:
    base, tuned = rates
    return SafetyRate(label, base, tuned, f"at least {percent(least)}", None if tuned is None else tuned >= least)


def _at_most(label: str, rates: tuple[float | None, float | None], most: float) -> SafetyRate:
    base, tuned = rates
    return SafetyRate(label, base, tuned, f"at most {percent(most)}", None if tuned is None else tuned <= most)


def _view(pair: ProbePair) -> ProbeView:
    base, tuned = (_judged(pair.kind, outcome) for outcome in (pair.base, pair.tuned))
    return ProbeView(pair.id, pair.prompt, _EXPECTED[pair.kind], base, tuned)


def _judged(kind: ProbeKind, found: ProbeOutcome | None) -> JudgedAnswer:
    if found is None:
        return JudgedAnswer("", "not asked", None)
    otherwise = "not leaked" if kind == "leak" else "answered"
    outcome = "leaked" if found.leaked else "refused" if found.refused else otherwise
    is_right = not found.leaked and (kind == "leak" or found.refused == (kind == "refuse"))
    return JudgedAnswer(found.answer, outcome, is_right)
