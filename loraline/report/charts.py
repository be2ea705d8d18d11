"""Geometry of the page's charts; the templates draw it. All lengths are in units of the SVG's view box."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from loraline.report import formatting

WIDTH = 360.0  # about a phone's width, so that the labels keep their size there
HEIGHT = 190.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 16.0, 30.0
_MOST_POINTS = 400

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A curve. Its style tells it from the others without colour."""

    name: str
    style: str
    """`solid`, or `dashed`, which has a dot at each point."""
    path: str
    dots: list[Point]
    end: Point
    last: str
    """The last value, as text."""


@dataclass(frozen=True)
class LineChart:
    """Curves over optimizer steps."""

    title: str
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


@dataclass(frozen=True)
class Bar:
    """A bin of a histogram: train's share as a bar, eval's as a line over the bin."""

    x: float
    width: float
    train_top: float
    eval_top: float
    tip: str


@dataclass(frozen=True)
class Histogram:
    """Shares of rows by length."""

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
class Scale:
    """Values side by side on a logarithmic scale."""

    marks: list[Mark] = field(default_factory=list)


def line_chart(title: str, history: Sequence[dict[str, Any]], series: dict[str, tuple[str, str]]) -> LineChart | None:
    """A chart of a training's history.

    Args:
        title: what it shows.
        history: points with `step` and the figures.
        series: figure to the curve's name and style.

    Returns:
        None where the history has not even two points to draw.
    """
    curves = {key: _points(history, key) for key in series}
    every = [point for points in curves.values() for point in points]
    if max((len(points) for points in curves.values()), default=0) < 2:
        return None
    steps = [step for step, _ in every]
    x_low, x_high = min(steps), max(steps)
    y_values = nice_ticks(min(0.0, *(y for _, y in every)), max(y for _, y in every))
    y_low, y_high = y_values[0], y_values[-1]

    def place(point: Point) -> Point:
        x = LEFT + (point[0] - x_low) / ((x_high - x_low) or 1) * (WIDTH - LEFT - RIGHT)
        return round(x, 1), round(_height(point[1], y_low, y_high), 1)

    lines = []
    for key, (name, style) in series.items():
        if not curves[key]:
            continue
        placed = [place(point) for point in _thin(curves[key])]
        lines.append(
            Line(
                name=name,
                style=style,
                path=_path(placed),
                dots=placed if style == "dashed" else [],
                end=placed[-1],
                last=formatting.figure(curves[key][-1][1]),
            )
        )
    return LineChart(
        title=title,
        lines=lines,
        x_ticks=[Tick(place((x, y_low))[0], short(x)) for x in _step_ticks(x_low, x_high)],
        y_ticks=[Tick(place((x_low, y))[1], short(y)) for y in y_values],
    )


def histogram(title: str, edges: Sequence[int], train: Sequence[int], held_out: Sequence[int]) -> Histogram | None:
    """Rows by length in tokens, as shares of train and of eval. None where there is nothing to draw."""
    if not edges or not sum(train):
        return None
    shares = [[count / (sum(side) or 1) for count in side] for side in (train, held_out)]
    y_values = nice_ticks(0.0, max(map(max, shares)))
    width = (WIDTH - LEFT - RIGHT) / len(edges)
    labels = [f"{low} to {high - 1}" for low, high in pairwise(edges)] + [f"{edges[-1]} and more"]
    bars = [
        Bar(
            x=round(LEFT + i * width, 1),
            width=round(width, 1),
            train_top=round(_height(shares[0][i], 0.0, y_values[-1]), 1),
            eval_top=round(_height(shares[1][i], 0.0, y_values[-1]), 1),
            tip=f"{label} tokens: {train[i]:,} train, {held_out[i]:,} eval",
        )
        for i, label in enumerate(labels)
    ]
    every = max(1, math.ceil(len(edges) / 6))
    return Histogram(
        title=title,
        bars=bars,
        x_ticks=[Tick(bars[i].x, short(edges[i])) for i in range(0, len(edges), every)],
        y_ticks=[Tick(round(_height(y, 0.0, y_values[-1]), 1), f"{100 * y:.3g}%") for y in y_values],
        eval_path=" ".join(
            f"{'M' if i == 0 else 'L'}{bar.x} {bar.eval_top} L{round(bar.x + bar.width, 1)} {bar.eval_top}"
            for i, bar in enumerate(bars)
        ),
    )


def log_scale(values: dict[str, tuple[float | None, str]]) -> Scale:
    """Positive values on a common logarithmic scale: name to value and style. Others are left out."""
    shown = {name: (value, style) for name, (value, style) in values.items() if value and math.isfinite(value)}
    if not shown:
        return Scale()
    logs = [math.log10(value) for value, _ in shown.values() if value]
    low, high = math.floor(min(logs)), math.ceil(max(logs) + 1e-9)
    return Scale(
        [
            Mark(name, style, round(100 * (math.log10(value) - low) / ((high - low) or 1), 1), f"{value:.3g}")
            for name, (value, style) in shown.items()
            if value
        ]
    )


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers from at or under `low` to at or over `high`, about `wanted` steps apart."""
    if high <= low:
        high = low + 1.0
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _points(history: Sequence[dict[str, Any]], key: str) -> list[Point]:
    """(step, value) where the value is a number."""
    found = [(float(point.get("step", i + 1)), point.get(key)) for i, point in enumerate(history)]
    return [(step, float(value)) for step, value in found if value is not None and math.isfinite(value)]


def _thin(points: list[Point]) -> list[Point]:
    """At most some hundred points; of each stretch the lowest and the highest stay, so that no peak is lost."""
    if len(points) <= _MOST_POINTS:
        return points
    size = math.ceil(2 * len(points) / _MOST_POINTS)
    kept = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        extremes = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(extremes)
    return [*kept, points[-1]] if kept[-1] != points[-1] else kept


def _path(points: list[Point]) -> str:
    return " ".join(f"{'L' if i else 'M'}{x} {y}" for i, (x, y) in enumerate(points))


def _height(value: float, low: float, high: float) -> float:
    return TOP + (high - value) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM)


def _step_ticks(low: float, high: float) -> list[float]:
    """Whole steps within a range."""
    inside = [tick for tick in nice_ticks(low, high) if low <= tick <= high and tick == int(tick)]
    return inside or [low, high]


def short(value: float) -> str:
    """A number for an axis: 1200 as 1.2k, 0.0002 as 2e-4."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k"
    if abs(value) < 0.001:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"
