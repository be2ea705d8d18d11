"""Geometry of the charts; the templates draw it. All lengths are in units of the SVG's view box."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from loraline.report.formatting import figure

WIDTH = 360.0  # about a phone's width, so that the labels keep their size there
HEIGHT = 190.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 16.0, 30.0
_MOST_POINTS = 400
_MOST_LABELS = 6

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Values by optimizer step. Those that are None or not finite are not drawn."""

    name: str
    style: str
    """`solid`, or `dashed`, which also has a dot at each point: the style tells curves apart without colour."""
    values: Sequence[tuple[int, float | None]]

    @property
    def points(self) -> list[Point]:
        """The points that can be drawn."""
        return [(float(step), value) for step, value in self.values if value is not None and math.isfinite(value)]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Curve:
    """A series as it is drawn."""

    name: str
    style: str
    path: str
    dots: list[Point]
    last: str
    """The last value, as text."""


@dataclass(frozen=True)
class LineChart:
    """Curves over optimizer steps."""

    title: str
    curves: list[Curve]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


@dataclass(frozen=True)
class Bar:
    """A bin of a histogram: the fraction of train as a bar, that of eval as a line over the bin."""

    x: float
    width: float
    train_top: float
    eval_top: float
    tip: str


@dataclass(frozen=True)
class Histogram:
    """Fractions of rows by length."""

    title: str
    bars: list[Bar]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    eval_path: str


@dataclass(frozen=True)
class Mark:
    """A value on a scale."""

    name: str
    style: str
    percent: float
    label: str


@dataclass(frozen=True)
class LogScale:
    """Values side by side on a logarithmic scale."""

    marks: list[Mark]


@dataclass(frozen=True)
class _Axes:
    """The ranges of both axes."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / ((self.x_high - self.x_low) or 1)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (self.y_high - value) / ((self.y_high - self.y_low) or 1)
        return round(TOP + share * (HEIGHT - TOP - BOTTOM), 1)

    def place(self, points: Sequence[Point]) -> list[Point]:
        return [(self.x(x), self.y(y)) for x, y in points]


def line_chart(title: str, series: Sequence[Series]) -> LineChart | None:
    """Draw series over optimizer steps; None where none has two points."""
    points = [point for one in series for point in one.points]
    if max((len(one.points) for one in series), default=0) < 2:
        return None
    steps = [step for step, _ in points]
    y_values = nice_ticks(min(0.0, *(y for _, y in points)), max(y for _, y in points))
    axes = _Axes(min(steps), max(steps), y_values[0], y_values[-1])
    return LineChart(
        title=title,
        curves=[_curve(one, axes) for one in series if one.points],
        x_ticks=[Tick(axes.x(x), short(x)) for x in _step_ticks(axes.x_low, axes.x_high)],
        y_ticks=[Tick(axes.y(y), short(y)) for y in y_values],
    )


def histogram(title: str, edges: Sequence[int], train: Sequence[int], held_out: Sequence[int]) -> Histogram | None:
    """Draw rows by length in tokens, as fractions of train and of eval; None where there is nothing to draw."""
    if not edges or not sum(train):
        return None
    fractions = [[count / (sum(side) or 1) for count in side] for side in (train, held_out)]
    y_values = nice_ticks(0.0, max(map(max, fractions)))
    axes = _Axes(0, len(edges), 0.0, y_values[-1])
    bars = [
        Bar(axes.x(i), round(axes.x(i + 1) - axes.x(i), 1), axes.y(fractions[0][i]), axes.y(fractions[1][i]), tip)
        for i, tip in enumerate(_tips(edges, train, held_out))
    ]
    every = max(1, math.ceil(len(edges) / _MOST_LABELS))
    return Histogram(
        title=title,
        bars=bars,
        x_ticks=[Tick(bars[i].x, short(edges[i])) for i in range(0, len(edges), every)],
        y_ticks=[Tick(axes.y(y), f"{100 * y:.3g}%") for y in y_values],
        eval_path=_path([end for bar in bars for end in ((bar.x, bar.eval_top), (bar.x + bar.width, bar.eval_top))]),
    )


def log_scale(values: Mapping[str, tuple[float | None, str]]) -> LogScale:
    """Place positive values on a common logarithmic scale: name to value and style. Others are left out."""
    shown = [(name, value, style) for name, (value, style) in values.items() if value and math.isfinite(value)]
    logs = [math.log10(value) for _, value, _ in shown]
    low, high = math.floor(min(logs, default=0.0)), math.ceil(max(logs, default=0.0) + 1e-9)
    return LogScale(
        [
            Mark(name, style, round(100 * (math.log10(value) - low) / ((high - low) or 1), 1), f"{value:.3g}")
            for name, value, style in shown
        ]
    )


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, in about `wanted` steps."""
    if high <= low:
        high = low + 1.0
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def short(value: float) -> str:
    """A number for an axis: 12000 as 12k, 0.0002 as 2e-4."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k"
    if abs(value) < 0.001:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def _curve(series: Series, axes: _Axes) -> Curve:
    points = axes.place(_thin(series.points))
    dots = points if series.style == "dashed" else []
    return Curve(series.name, series.style, _path(points), dots, figure(series.points[-1][1]))


def _tips(edges: Sequence[int], train: Sequence[int], held_out: Sequence[int]) -> list[str]:
    labels = [f"{low} to {high - 1}" for low, high in pairwise(edges)] + [f"{edges[-1]} and more"]
    return [
        f"{label} tokens: {in_train:,} train, {in_eval:,} eval"
        for label, in_train, in_eval in zip(labels, train, held_out, strict=True)
    ]


def _thin(points: list[Point]) -> list[Point]:
    """At most some hundred points: of each stretch the lowest and the highest, so that no peak is lost."""
    if len(points) <= _MOST_POINTS:
        return points
    size = math.ceil(2 * len(points) / _MOST_POINTS)
    kept: list[Point] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        extremes = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(extremes)
    return [*kept, points[-1]] if kept[-1] != points[-1] else kept


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{'L' if i else 'M'}{round(x, 1)} {y}" for i, (x, y) in enumerate(points))


def _step_ticks(low: float, high: float) -> list[float]:
    """Whole steps within a range."""
    inside = [tick for tick in nice_ticks(low, high) if low <= tick <= high and tick == int(tick)]
    return inside or [low, high]
