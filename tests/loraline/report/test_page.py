"""What the page's charts and words promise."""

from itertools import pairwise

import pytest

from loraline.report import charts, formatting, intervals
from loraline.report.intervals import Interval


@pytest.mark.parametrize(("low", "high"), [(0.0, 3.0), (-0.2, 0.7), (0.0, 2e-4), (5.0, 5.0), (1.0, 98765.0)])
def test_ticks_are_round_and_hold_the_range(low: float, high: float) -> None:
    ticks = charts.nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 7
    steps = {round(after - before, 9) for before, after in pairwise(ticks)}
    assert len(steps) == 1


def test_a_long_curve_is_thinned_and_keeps_its_peaks_and_ends() -> None:
    history = [{"step": step, "loss": 1.0} for step in range(1, 20_001)]
    history[7_777]["loss"] = 9.0
    chart = charts.line_chart("loss", history, {"loss": ("training", "solid")})
    assert chart is not None
    path = chart.lines[0].path.split(" L")
    assert len(path) < 500
    tops = [float(point.split()[1]) for point in path[1:]]
    assert tops.count(min(tops)) == 1
    assert chart.lines[0].end[0] == charts.WIDTH - charts.RIGHT


def test_a_curve_leaves_out_what_is_not_a_number() -> None:
    history = [
        {"step": 0, "eval_loss": 2.0},
        {"step": 1, "loss": None},
        {"step": 2, "loss": 1.0},
        {"step": 3, "loss": 0.5},
    ]
    chart = charts.line_chart("loss", history, {"loss": ("training", "solid"), "eval_loss": ("held-out", "dashed")})
    assert chart is not None
    assert [line.path.count("L") for line in chart.lines] == [1, 0]
    assert charts.line_chart("loss", history[:1], {"loss": ("training", "solid")}) is None


def test_intervals_share_a_scale_that_holds_zero_and_their_limits() -> None:
    chart = intervals.interval_chart(
        "fraction of 1", [Interval("one", 0.3, 0.2, 0.4, limit=-0.1), Interval("two", 0.1, None, None)]
    )
    assert chart is not None
    assert [label for _, label in chart.ticks] == ["-0.2", "0", "0.2", "0.4"]
    assert chart.zero == pytest.approx(100 / 3, abs=0.01)
    one, two = chart.rows
    assert (one.limit, one.dot) == (pytest.approx(100 / 6, abs=0.01), pytest.approx(100 * 5 / 6, abs=0.01))
    assert (one.begin, one.width) == (pytest.approx(100 * 4 / 6, abs=0.01), pytest.approx(100 * 2 / 6, abs=0.01))
    assert one.text == "+0.3 (0.2 to 0.4)"
    assert (two.dot, two.width, two.text) == (50.0, None, "+0.1")


def test_what_cannot_be_told_is_said_and_not_drawn() -> None:
    assert intervals.interval_chart("nats", [Interval("one", None, None, None, limit=0.1)]) is None
    chart = intervals.interval_chart(
        "nats", [Interval("one", float("nan"), float("nan"), float("inf")), Interval("two", 1.0, 0.5, 1.5)]
    )
    assert chart is not None
    assert (chart.rows[0].text, chart.rows[0].dot, chart.rows[0].width) == ("cannot be told", None, None)
    assert chart.rows[1].dot == pytest.approx(100 * 1.0 / 1.5, abs=0.01)


@pytest.mark.parametrize(("value", "text"), [(0.0, "< 0.0001"), (0.00009, "< 0.0001"), (0.0499, "= 0.05")])
def test_a_probability_is_said_with_its_relation(value: float, text: str) -> None:
    assert intervals.probability(value) == text


def test_an_answer_is_marked_where_the_reference_has_something_else() -> None:
    pieces = formatting.against_reference("the third of June", "the third of May")
    assert [(piece.text, piece.is_off) for piece in pieces] == [("the third of ", False), ("June", True)]
    assert formatting.against_reference("", "the third of May") == []
    assert not any(piece.is_off for piece in formatting.against_reference("the third", "the third"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "n/a"), (0.12345, "0.1235"), (1234567, "1,234,567"), (54321.5, "54,322"), (float("nan"), "not a number")],
)
def test_figures_are_short(value: float | None, text: str) -> None:
    assert formatting.figure(value) == text


def test_durations_are_written_with_units() -> None:
    assert [formatting.duration(seconds) for seconds in (4.25, 75.0, 7300.0)] == ["4.2 s", "1 min 15 s", "2 h 1 min"]
    assert [formatting.signed(value) for value in (0.5, -0.25, 0.0, None)] == ["+0.5", "-0.25", "0", "n/a"]
