"""What the gate hands on: its verdict. The evidence that it rests on is `loraline.evidence.schema`."""

from typing import ClassVar, Literal

from loraline.artifacts.base import Report
from loraline.artifacts.evaluation import MetricName

EVIDENCE = "evidence.json"

VerdictName = Literal["promote", "reject"]


class Verdict(Report):
    """The gate's decision and its reasons. It is a part of the evidence, and also a file of its own."""

    FILE: ClassVar[str] = "verdict.json"

    verdict: VerdictName
    reasons: list[str]
    """Sentences: on a reject every check that failed, on a promote what was found in the tuned model's favour."""
    not_measured: list[str]
    """Checks that measured nothing, because a setting switched them off or they do not apply; the reasons say why."""
    metric: MetricName
    """The metric that decides."""
    gain: float | None
    """By how much the tuned model is better (nats a token for loss, else fraction 0 to 1). None: not computable."""
    min_gain: float
    """Threshold of the gain's lower confidence limit."""
    examples: int
    """Examples that the gain is computed on."""
    lower: float | None
    """Lower confidence limit of the gain. None: not computable."""
    upper: float | None
    evaluated_as: str | None
    """Which weights the figures are of, and how they were held in memory. None: not evaluated."""
    margin_spent: float = 0.0
    """By how much the model is worse than the best champion there was, by the metric that decides: its difference to
    the champion, and what that lost to the one before. 0 where it is the best, or the first. The next model is held to
    what is left of gate.champion_margin."""
    confidence: float
    """Level of the interval, two-sided."""
    p_value: float | None
    """Of the exact test, two-sided."""
