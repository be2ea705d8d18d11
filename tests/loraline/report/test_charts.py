"""Geometry of the charts."""

from itertools import pairwise

import pytest

from loraline.report import charts
from loraline.report.charts import Series


@pytest.mark.parametrize(("low", "high"), [(0.0, 3.0), (-0.2, 0.7), (0.0, 2e-4), (5.0, 5.0), (1.0, 98765.0)])
def test_ticks_are_round_and_hold_the_range(low: float, high: float) -> None:
    ticks = charts.nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 7
    steps = {round(after - before, 9) for before, after in pairwise(ticks)}
    assert len(steps) == 1


def test_a_long_curve_is_thinned_and_keeps_its_peaks_and_ends() -> None:
    values = [(step, 9.0 if step == 7_778 else 1.0) for step in range(1, 20_001)]
    chart = charts.line_chart("loss", [Series("training", "solid", values)])
    assert chart is not None
    path = chart.curves[0].path.split(" L")
    assert len(path) < 500
    tops = [float(point.split()[1]) for point in path[1:]]
    assert tops.count(min(tops)) == 1
    assert float(path[-1].split()[0]) == charts.WIDTH - charts.RIGHT


def test_a_curve_leaves_out_what_is_not_a_number() -> None:
    training = Series("training", "solid", [(0, None), (1, None), (2, 1.0), (3, 0.5), (4, float("nan"))])
    held_out = Series("held-out", "dashed", [(0, 2.0), (1, None)])
    chart = charts.line_chart("loss", [training, held_out])
    assert chart is not None
    assert [curve.path.count("L") for curve in chart.curves] == [1, 0]
    assert charts.line_chart("loss", [held_out]) is None


def test_a_histogram_shows_fractions_of_each_side() -> None:
    chart = charts.histogram("length", [0, 4, 8], [1, 3, 0], [0, 0, 2])
    assert chart is not None
    assert [bar.tip for bar in chart.bars] == [
        "0 to 3 tokens: 1 train, 0 eval",
        "4 to 7 tokens: 3 train, 0 eval",
        "8 and more tokens: 0 train, 2 eval",
    ]
    floor, top = charts.HEIGHT - charts.BOTTOM, charts.TOP
    assert [bar.eval_top for bar in chart.bars] == [floor, floor, top]
    assert chart.bars[2].train_top == floor
    assert charts.histogram("length", [], [], []) is None


def test_a_logarithmic_scale_leaves_out_what_has_no_logarithm() -> None:
    scale = charts.log_scale({"one": (0.01, "main"), "ten": (10.0, "minor"), "none": (None, "minor"), "0": (0.0, "x")})
    assert [(mark.name, mark.percent) for mark in scale.marks] == [
        ("one", 0.0),
        ("ten", pytest.approx(100 * 3 / 4, abs=30)),
    ]
    assert charts.log_scale({"none": (None, "minor")}).marks == []
