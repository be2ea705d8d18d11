"""Differences with their intervals."""

import pytest

from loraline.report.intervals import Difference, interval_chart


def test_intervals_share_a_scale_that_holds_zero_and_their_thresholds() -> None:
    chart = interval_chart(
        "fraction", [Difference("one", 0.3, 0.2, 0.4, threshold=-0.1), Difference("two", 0.1, None, None)]
    )
    assert chart is not None
    assert [label for _, label in chart.ticks] == ["-0.2", "0", "0.2", "0.4"]
    assert chart.zero == pytest.approx(100 / 3, abs=0.01)
    one, two = chart.rows
    assert (one.threshold, one.dot) == (pytest.approx(100 / 6, abs=0.01), pytest.approx(100 * 5 / 6, abs=0.01))
    assert (one.begin, one.width) == (pytest.approx(100 * 4 / 6, abs=0.01), pytest.approx(100 * 2 / 6, abs=0.01))
    assert one.difference.text == "+0.3 (0.2 to 0.4)"
    assert (two.dot, two.width, two.difference.text) == (50.0, None, "+0.1")


def test_what_is_not_measurable_is_said_and_not_drawn() -> None:
    assert interval_chart("nats", [Difference("one", None, None, None, threshold=0.1)]) is None
    chart = interval_chart(
        "nats", [Difference("one", float("nan"), float("nan"), float("inf")), Difference("two", 1.0, 0.5, 1.5)]
    )
    assert chart is not None
    assert (chart.rows[0].difference.text, chart.rows[0].dot, chart.rows[0].width) == ("not measurable", None, None)
    assert chart.rows[1].dot == pytest.approx(100 * 1.0 / 1.5, abs=0.01)
