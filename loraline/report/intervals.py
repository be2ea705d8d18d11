"""Differences with their confidence intervals, as positions on a common scale in percent of its width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loraline.evidence.schema import Comparison, Forgetting
from loraline.report import formatting
from loraline.report.charts import nice_ticks, short
from loraline.report.evidence_view import EvidenceView
from loraline.report.formatting import figure

_TESTS = {"mcnemar": "McNemar's test", "sign": "sign test"}


@dataclass(frozen=True)
class Interval:
    """A difference, the ends of its interval, and what it is held to."""

    label: str
    value: float | None
    lower: float | None
    upper: float | None
    limit: float | None = None
    """Drawn as a line of its own; None: nothing is asked of this figure."""
    limit_name: str = ""
    note: str = ""
    decides: bool = False


@dataclass(frozen=True)
class Whisker:
    """An interval where it is drawn. What is not known is None and not drawn."""

    interval: Interval
    text: str
    """The difference and the ends of its interval, as words."""
    dot: float | None
    begin: float | None
    width: float | None
    limit: float | None


@dataclass(frozen=True)
class IntervalChart:
    """Whiskers above one axis."""

    unit: str
    rows: list[Whisker]
    zero: float
    ticks: list[tuple[float, str]]


def interval_chart(unit: str, intervals: Sequence[Interval]) -> IntervalChart | None:
    """Lay intervals out on a common scale that holds zero and all limits. None where there is nothing to draw."""
    if not any(_is_number(interval.value) for interval in intervals):
        return None
    points = [0.0] + [
        point
        for interval in intervals
        for point in (interval.value, interval.lower, interval.upper, interval.limit)
        if point is not None and math.isfinite(point)
    ]
    ticks = nice_ticks(min(points), max(points))
    low, high = ticks[0], ticks[-1]

    def place(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else round(100 * (value - low) / (high - low), 2)

    rows = []
    for interval in intervals:
        begin, end = place(interval.lower), place(interval.upper)
        width = None if begin is None or end is None else round(end - begin, 2)
        rows.append(Whisker(interval, _text(interval), place(interval.value), begin, width, place(interval.limit)))
    return IntervalChart(unit, rows, place(0.0) or 0.0, [(place(tick) or 0.0, short(tick)) for tick in ticks])


def verdict_chart(evidence: EvidenceView) -> IntervalChart | None:
    """The gain that decides, alone. None for evidence of version 1, which has no interval."""
    verdict = evidence.verdict
    if verdict.lower is None or verdict.upper is None:
        return None
    label = f"gain in {formatting.LABELS[verdict.metric]}"
    limit_name = f"the gain has to exceed {figure(verdict.min_gain)}"
    interval = Interval(label, verdict.gain, verdict.lower, verdict.upper, verdict.min_gain, limit_name)
    return interval_chart(unit_of(verdict.metric), [interval])


def comparison_charts(evidence: EvidenceView) -> list[IntervalChart]:
    """Every comparison: those in fractions on one scale, those in nats on another; first that of the verdict."""
    kinds: dict[str, list[Interval]] = {unit_of(evidence.verdict.metric): []}
    for comparison in evidence.comparisons:
        kinds.setdefault(unit_of(comparison.metric), []).append(_of_comparison(evidence, comparison))
    charts = (interval_chart(unit, intervals) for unit, intervals in kinds.items())
    return [chart for chart in charts if chart]


def forgetting_chart(forgetting: Forgetting | None) -> IntervalChart | None:
    """The loss on the general set: above zero is forgotten."""
    if forgetting is None:
        return None
    limit_name = "" if forgetting.threshold is None else f"at most {figure(forgetting.threshold)}"
    interval = Interval(
        "loss on the general set",
        forgetting.difference,
        forgetting.lower,
        forgetting.upper,
        forgetting.threshold,
        limit_name,
        f"{figure(forgetting.examples)} examples",
    )
    return interval_chart("nats per token, less is better", [interval])


def unit_of(metric: str) -> str:
    """What a metric's gain is counted in."""
    return "nats per token" if metric == "loss" else "fraction of 1"


def _of_comparison(evidence: EvidenceView, comparison: Comparison) -> Interval:
    decides = comparison.metric == evidence.verdict.metric
    limit, limit_name = None, ""
    if decides and comparison.against == "base":
        limit = evidence.verdict.min_gain
        limit_name = f"has to be above {figure(limit)}"
    elif decides:
        limit = -evidence.thresholds.champion_margin
        limit_name = f"must not be below {figure(limit)}"
    note = (
        f"{comparison.wins:,} won, {comparison.losses:,} lost, {comparison.ties:,} even; "
        f"p {probability(comparison.p_value)} ({_TESTS[comparison.test]})"
    )
    label = f"{formatting.LABELS[comparison.metric]} against the {comparison.against}"
    return Interval(label, comparison.difference, comparison.lower, comparison.upper, limit, limit_name, note, decides)


def probability(value: float) -> str:
    """A p-value, with the sign of its relation."""
    return "< 0.0001" if value < 0.0001 else f"= {value:.2g}"


def _text(interval: Interval) -> str:
    if not _is_number(interval.value):
        return "cannot be told"
    if interval.lower is None or interval.upper is None:
        return formatting.signed(interval.value)
    return f"{formatting.signed(interval.value)} ({figure(interval.lower)} to {figure(interval.upper)})"


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
