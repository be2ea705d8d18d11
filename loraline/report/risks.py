"""What could speak against a model beside its gain: forgetting, safety and the merge, as the page shows them."""

from dataclasses import dataclass
from typing import Any

from loraline.artifacts.evaluation import ProbeOutcome
from loraline.evidence.schema import ProbePair
from loraline.report import charts, formatting
from loraline.report.evidence_view import EvidenceView
from loraline.report.formatting import figure

_MOST_PROBES = 8

_RATES = {
    # figure: (words, limit's name in the budget, whether the limit is the most or the least)
    "refusal_rate": ("refuses what it should refuse", "min_refusal_rate", "at least"),
    "leak_rate": ("gives away what it must not", "max_leak_rate", "at most"),
    "over_refusal_rate": ("refuses what is harmless", "max_over_refusal_rate", "at most"),
}


@dataclass(frozen=True)
class Rate:
    """A safety figure of both sides."""

    label: str
    base: float | None
    tuned: float | None
    limit: str
    is_within: bool | None
    """Whether the tuned model keeps the limit; None where there is none."""


@dataclass(frozen=True)
class Probe:
    """A probe, and in words what each side did."""

    pair: ProbePair
    expects: str
    base: tuple[str, bool | None]
    """What it did, and whether that is right; None: it was not asked."""
    tuned: tuple[str, bool | None]

    @property
    def is_failed(self) -> bool:
        """Whether the tuned model did not do what it should."""
        return self.tuned[1] is not True


_EXPECTED = {"refuse": "should refuse", "leak": "must not give it away", "benign": "should answer"}


def rates(evidence: EvidenceView) -> list[Rate]:
    """The safety figures against the policy's budget."""
    if evidence.safety is None:
        return []
    found = []
    for name, (label, limit_name, relation) in _RATES.items():
        base, tuned = (((side or {}).get("safety") or {}).get(name) for side in (evidence.base, evidence.tuned))
        limit = evidence.safety.thresholds.model_dump().get(limit_name)
        if base is None and tuned is None and limit is None:
            continue
        within = None
        if limit is not None and tuned is not None:
            within = tuned >= limit if relation == "at least" else tuned <= limit
        found.append(
            Rate(label, base, tuned, "" if limit is None else f"{relation} {formatting.percent(limit)}", within)
        )
    return [*found, *_refusal_drop(evidence)]


def _refusal_drop(evidence: EvidenceView) -> list[Rate]:
    """By how much the tuned model refuses less than its base."""
    base, tuned = (((side or {}).get("safety") or {}).get("refusal_rate") for side in (evidence.base, evidence.tuned))
    if base is None or tuned is None or evidence.safety is None:
        return []
    limit = evidence.safety.thresholds.max_refusal_drop
    drop = max(0.0, base - tuned)
    return [Rate("refuses less than the base", None, drop, f"at most {formatting.percent(limit)}", drop <= limit)]


def probes(evidence: EvidenceView) -> tuple[list[Probe], list[Probe]]:
    """The probes to show, those that failed first, and the others."""
    if evidence.safety is None:
        return [], []
    found = [_probe(pair) for pair in evidence.safety.probes]
    found.sort(key=lambda probe: (not probe.is_failed, probe.base[1] == probe.tuned[1]))
    return found[:_MOST_PROBES], found[_MOST_PROBES:]


def _probe(pair: ProbePair) -> Probe:
    return Probe(
        pair,
        _EXPECTED.get(pair.kind, pair.kind),
        _outcome(pair.kind, pair.base),
        _outcome(pair.kind, pair.tuned),
    )


def _outcome(kind: str, outcome: ProbeOutcome | None) -> tuple[str, bool | None]:
    if outcome is None:
        return "was not asked", None
    refused, leaked = outcome.refused, outcome.leaked
    otherwise = "kept it" if kind == "leak" else "answered"
    did = "gave it away" if leaked else "refused" if refused else otherwise
    return did, not leaked and (kind == "leak" or bool(refused) == (kind == "refuse"))


@dataclass(frozen=True)
class Task:
    """A task of lm-evaluation-harness."""

    name: str
    metric: str
    base: float | None
    tuned: float | None
    change: float | None
    is_within: bool | None
    """Whether the drop is within gate.max_task_drop; None: it cannot be told."""


def tasks(evidence: EvidenceView) -> list[Task]:
    """What the tasks came to."""
    found = evidence.forgetting.tasks if evidence.forgetting else {}
    most = evidence.thresholds.max_task_drop
    return [
        Task(
            name,
            task.metric or "",
            task.base,
            task.tuned,
            None if task.drop is None else -task.drop,
            None if task.drop is None else task.drop <= most + 1e-9,
        )
        for name, task in sorted(found.items())
    ]


def merge_scale(merge: dict[str, Any]) -> charts.Scale:
    """Differences of logits on one scale: by the merge, by the quantization, and by the adapter."""
    if merge.get("max_abs_logit_difference") is None:
        return charts.Scale()
    quantized = merge.get("quantized") or {}
    return charts.log_scale(
        {
            "mean difference": (merge.get("mean_abs_logit_difference"), "minor"),
            "largest difference": (merge.get("max_abs_logit_difference"), "main"),
            "tolerance": (merge.get("tolerance"), "threshold"),
            "against the quantized base": (quantized.get("max_abs_logit_difference"), "minor"),
            "what the adapter changes": (merge.get("max_adapter_effect"), "minor"),
        }
    )


def merge_facts(merge: dict[str, Any]) -> list[tuple[str, str]]:
    """What else was compared, in words; what was not is left out."""
    found = []
    divergence, greedy = merge.get("kl_divergence") or {}, merge.get("greedy") or {}
    if divergence:
        budget = merge.get("max_kl_divergence")
        held = "" if budget is None else f"; at most {figure(budget)} is allowed"
        figures = f"{figure(divergence.get('mean'))} nats in the mean, {figure(divergence.get('max'))} at most"
        found.append(("KL divergence", f"{figures}{held}"))
    if greedy:
        ties = greedy.get("ties") or 0
        excused = f"; {figure(ties)} more, but for a choice between two tokens as good as equal" if ties else ""
        found.append(
            (
                "greedy answers",
                f"{figure(greedy.get('equal'))} of {figure(greedy.get('examples'))} are the same, token by "
                f"token{excused}",
            )
        )
    if merge.get("prompts"):
        found.append(("prompts as served", f"{figure(len(merge['prompts']))} encoded by the merged model's template"))
    return found
