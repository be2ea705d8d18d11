"""Faults of paired scores: models that were evaluated on different rows, and figures that their examples do not give.

The checks of gain, champion and forgetting share them.
"""

import math

from loraline.artifacts.evaluation import FIGURE_LABELS, MetricName, Score
from loraline.evidence.schema import ComparedModel, Comparison, EvaluatedModel, Findings, Pairing
from loraline.gate.comparisons import METRIC_NAMES, value_of
from loraline.gate.wording import MODELS, change, some_ids


def pairing_faults(pairing: Pairing | None, model: ComparedModel, rows: str = "examples") -> list[str]:
    """Both models must have been evaluated on the same rows, in the same order."""
    if pairing is None:
        return [f"it is not known whether {model} and tuned were scored on the same {rows}"]
    faults = []
    if unpaired := sorted({*pairing.tuned_only, *pairing.other_only}):
        faults.append(
            f"{model} and tuned were not scored on the same {rows}: {len(pairing.other_only)} only by the {model}, "
            f"{len(pairing.tuned_only)} only by the tuned model ({some_ids(unpaired)})"
        )
    faults += repetition_faults(pairing, model, rows)
    if not pairing.same_order:
        faults.append(f"{model} and tuned were not scored on the {rows} in the same order")
    return faults


def repetition_faults(pairing: Pairing | None, model: ComparedModel, rows: str = "examples") -> list[str]:
    """No row may occur twice; rows that one model alone has are left out and counted."""
    if pairing is None:
        return [f"it is not known whether {model} and tuned were scored on the same {rows}"]
    if not pairing.repeated:
        return []
    return [f"{len(pairing.repeated)} {rows} of {model} and tuned occur more than once ({some_ids(pairing.repeated)})"]


def figure_faults(findings: Findings, model: EvaluatedModel) -> list[str]:
    """The metric that decides must be there, and every stated metric must be the mean over the model's examples."""
    report, metric = findings.evaluation(model), findings.thresholds.metric
    scores = [score for example in findings.examples if (score := example.score(model))]
    faults = []
    if report is None or report.figure(metric) is None:
        faults.append(f"the {FIGURE_LABELS[metric]} of the {MODELS[model]} is not a number")
    without_loss = [
        example.id
        for example in findings.examples
        if (score := example.score(model)) and value_of(score, "loss") is None
    ]
    if without_loss:
        count = len(without_loss)
        faults.append(f"the loss of the {MODELS[model]} is not a number on {count} examples ({some_ids(without_loss)})")
    # Where some examples are not paired, the stated figures are means over more of them than are here.
    pairings = (findings.pairing.base, findings.pairing.champion if model == "champion" else None)
    if report is None or faults or any(pairing and pairing.is_partial for pairing in pairings):
        return faults
    for name in METRIC_NAMES:
        stated, computed = report.figure(name), _mean(name, scores)
        if stated is not None and (computed is None or not math.isclose(stated, computed, rel_tol=1e-6, abs_tol=1e-9)):
            given = "none" if computed is None else f"{computed:.6g}"
            faults.append(
                f"the {FIGURE_LABELS[name]} of the {MODELS[model]} is stated as {stated:.6g}, "
                f"but its examples give {given}"
            )
    return faults


def example_faults(findings: Findings, against: ComparedModel) -> list[str]:
    """Enough examples must have the metric that decides of both models; with the base each of both or of neither."""
    metric, thresholds = findings.thresholds.metric, findings.thresholds
    scored, one_sided = 0, []
    for example in findings.examples:
        is_there = [value_of(score, metric) is not None for score in (example.score(against), example.tuned)]
        scored += all(is_there)
        if any(is_there) and not all(is_there):
            one_sided.append(example.id)
    faults = []
    if one_sided and against == "base":
        faults.append(
            f"{len(one_sided)} examples have a figure for {FIGURE_LABELS[metric]} on one side only "
            f"({some_ids(one_sided)})"
        )
    if scored < thresholds.min_examples:
        faults.append(
            f"{scored} examples have a figure for {FIGURE_LABELS[metric]} on both sides, "
            f"fewer than gate.min_examples = {thresholds.min_examples}: hold out more rows (data.eval_fraction, or "
            "data.eval_source)"
        )
    return faults


def tokenized_differently(findings: Findings, against: ComparedModel) -> list[str]:
    """Ids of the examples that have another number of labelled tokens for another model than for the tuned one."""
    return [
        example.id
        for example in findings.examples
        if (score := example.score(against)) and score.tokens != example.tuned.tokens
    ]


def describe_change(findings: Findings, comparison: Comparison) -> str:
    """How the metric changed, and on how many examples; the evaluations must have it."""
    other, tuned = (findings.evaluation(model) for model in (comparison.against, "tuned"))
    before, after = (report.figure(comparison.metric) if report else None for report in (other, tuned))
    assert before is not None
    assert after is not None
    return f"{change(comparison.metric, before, after)} on {comparison.examples} held-out examples"


def _mean(metric: MetricName, scores: list[Score]) -> float | None:
    """The mean over examples, as an evaluation computes it: of the loss over tokens, of the others over examples."""
    there = [(value, score.tokens) for score in scores if (value := value_of(score, metric)) is not None]
    weight = sum(tokens for _, tokens in there) if metric == "loss" else len(there)
    return math.fsum(value for value, _ in there) / weight if weight else None
