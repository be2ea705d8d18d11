"""The tuned model compared with base and champion, metric by metric, over the examples that both have."""

import math
from collections.abc import Sequence
from typing import get_args

from loraline.artifacts.evaluation import MetricName, Score
from loraline.evidence.schema import ComparedModel, Comparison, PairedExample
from loraline.evidence.statistics import loss_interval, score_interval, sign_test

METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)


def compare(examples: Sequence[PairedExample], against: ComparedModel, confidence: float) -> list[Comparison]:
    """Compare the tuned model with another on every metric that both have, with intervals of this confidence."""
    comparisons = (_compare(examples, against, metric, confidence) for metric in METRIC_NAMES)
    return [comparison for comparison in comparisons if comparison]


def value_of(score: Score | None, metric: MetricName) -> float | None:
    """An example's metric; None where it has none, or none that can be averaged."""
    value = score.metric(metric) if score else None
    if score is None or value is None or not math.isfinite(value) or (metric == "loss" and score.tokens <= 0):
        return None
    return value


def _compare(
    examples: Sequence[PairedExample], against: ComparedModel, metric: MetricName, confidence: float
) -> Comparison | None:
    ids: list[str] = []
    others: list[float] = []
    tuned: list[float] = []
    tokens: list[int] = []
    for example in examples:
        theirs, own = value_of(example.score(against), metric), value_of(example.tuned, metric)
        if theirs is not None and own is not None:
            ids.append(example.id)
            others.append(theirs)
            tuned.append(own)
            tokens.append(example.tuned.tokens)
    if not ids:
        return None
    # The nats of a text do not depend on its tokenizer. Divided by the tuned model's tokens on both sides, they
    # compare a champion of another tokenizer too; with the same tokenizer it is the difference of losses per token.
    is_loss = metric == "loss"
    better = (others, tuned) if is_loss else (tuned, others)
    found = loss_interval(*better, tokens, confidence) if is_loss else score_interval(ids, *better, confidence)
    tested = sign_test([one - other for one, other in zip(*better, strict=True)])
    return Comparison(
        against=against,
        metric=metric,
        examples=len(ids),
        difference=found.difference,
        lower=found.lower,
        upper=found.upper,
        confidence=confidence,
        method="t" if is_loss else "betting",
        test="mcnemar" if metric == "exact_match" else "sign",
        wins=tested.wins,
        losses=tested.losses,
        ties=tested.ties,
        p_value=tested.p_value,
    )
