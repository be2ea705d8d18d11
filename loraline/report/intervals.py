"""Differences with their confidence intervals, as positions on a common scale in percent of its width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loraline.artifacts.evaluation import FIGURE_LABELS, MetricName
from loraline.artifacts.verdict import Verdict
from loraline.evidence.schema import Comparison, Evidence, Forgetting
from loraline.gate.margin import lowest_difference
from loraline.report.charts import nice_ticks, short
from loraline.report.formatting import figure, interval, probability, signed

_TESTS = {"mcnemar": "McNemar's test", "sign": "sign test"}


@dataclass(frozen=True)
class Difference:
    """A difference, the ends of its interval, and its threshold."""

    label: str
    value: float | None
    lower: float | None
    upper: float | None
    threshold: float | None = None
    """Drawn as a line of its own; None where it has none."""
    threshold_label: str = ""
    note: str = ""
    decides: bool = False

    @property
    def points(self) -> list[float]:
        """What has to be on the scale."""
        drawn = (self.value, self.lower, self.upper, self.threshold)
        return [point for point in drawn if point is not None and math.isfinite(point)]

    @property
    def text(self) -> str:
        """The difference and the ends of its interval."""
        if self.value is None or not math.isfinite(self.value):
            return "not measurable"
        ends = interval(self.lower, self.upper)
        return f"{signed(self.value)} ({ends})" if ends else signed(self.value)


@dataclass(frozen=True)
class Whisker:
    """A difference where it is drawn. What is not known is None and not drawn."""

    difference: Difference
    dot: float | None
    begin: float | None
    width: float | None
    threshold: float | None


@dataclass(frozen=True)
class IntervalChart:
    """Whiskers above one axis."""

    unit: str
    rows: list[Whisker]
    zero: float
    ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    def percent(self, value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def whisker(self, difference: Difference) -> Whisker:
        begin, end = self.percent(difference.lower), self.percent(difference.upper)
        width = None if begin is None or end is None else round(end - begin, 2)
        return Whisker(difference, self.percent(difference.value), begin, width, self.percent(difference.threshold))


def interval_chart(unit: str, differences: Sequence[Difference]) -> IntervalChart | None:
    """Lay differences out on a common scale with zero and all thresholds; None where none has a value."""
    if not any(one.value is not None and math.isfinite(one.value) for one in differences):
        return None
    points = [0.0, *(point for one in differences for point in one.points)]
    ticks = nice_ticks(min(points), max(points))
    axis = _Axis(ticks[0], ticks[-1])
    labels = [(axis.percent(tick) or 0.0, short(tick)) for tick in ticks]
    return IntervalChart(unit, [axis.whisker(one) for one in differences], axis.percent(0.0) or 0.0, labels)


def verdict_chart(verdict: Verdict) -> IntervalChart | None:
    """The gain that decides, alone; None where it has no interval."""
    if verdict.lower is None or verdict.upper is None:
        return None
    label = f"gain in {FIGURE_LABELS[verdict.metric]}"
    threshold_label = f"lower limit has to be above {figure(verdict.min_gain)}"
    gain = Difference(label, verdict.gain, verdict.lower, verdict.upper, verdict.min_gain, threshold_label)
    return interval_chart(unit_of(verdict.metric), [gain])


def comparison_charts(evidence: Evidence) -> list[IntervalChart]:
    """Every comparison: fractions on one scale, nats on another; the metric that decides comes first."""
    by_unit: dict[str, list[Difference]] = {unit_of(evidence.verdict.metric): []}
    for comparison in evidence.comparisons:
        by_unit.setdefault(unit_of(comparison.metric), []).append(_of_comparison(evidence, comparison))
    charts = (interval_chart(unit, differences) for unit, differences in by_unit.items())
    return [chart for chart in charts if chart]


def forgetting_chart(forgetting: Forgetting | None) -> IntervalChart | None:
    """The increase of the loss on the general set; None where it was not measured."""
    if forgetting is None:
        return None
    increase = Difference(
        "loss on the general set",
        forgetting.difference,
        forgetting.lower,
        forgetting.upper,
        forgetting.threshold,
        "" if forgetting.threshold is None else f"upper limit at most {figure(forgetting.threshold)}",
        f"{figure(forgetting.examples)} rows",
    )
    return interval_chart("nats per token, lower is better", [increase])


def unit_of(metric: MetricName) -> str:
    """The unit of a metric's gain."""
    return "nats per token" if metric == "loss" else "fraction"


def _of_comparison(evidence: Evidence, comparison: Comparison) -> Difference:
    decides = comparison.metric == evidence.verdict.metric
    threshold, threshold_label = _threshold(evidence, comparison) if decides else (None, "")
    note = (
        f"{comparison.wins:,} won, {comparison.losses:,} lost, {comparison.ties:,} tied; "
        f"p {probability(comparison.p_value)} ({_TESTS[comparison.test]})"
    )
    label = f"{FIGURE_LABELS[comparison.metric]}, tuned against {comparison.against}"
    value, lower, upper = comparison.difference, comparison.lower, comparison.upper
    return Difference(label, value, lower, upper, threshold, threshold_label, note, decides)


def _threshold(evidence: Evidence, comparison: Comparison) -> tuple[float, str]:
    margins = {"base": evidence.verdict.min_gain, "champion": lowest_difference(evidence)}
    threshold = margins[comparison.against]
    return threshold, f"lower limit has to be above {figure(threshold)}"
