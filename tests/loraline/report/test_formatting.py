"""Numbers and texts."""

import pytest

from loraline.report import formatting
from loraline.report.answers import spans


@pytest.mark.parametrize(("value", "text"), [(0.0, "< 0.0001"), (0.00009, "< 0.0001"), (0.0499, "= 0.05")])
def test_a_probability_is_said_with_its_relation(value: float, text: str) -> None:
    assert formatting.probability(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "n/a"), (0.12345, "0.1235"), (1234567, "1,234,567"), (54321.5, "54,322"), (float("nan"), "not a number")],
)
def test_figures_are_short(value: float | None, text: str) -> None:
    assert formatting.figure(value) == text


def test_durations_are_written_with_units() -> None:
    assert [formatting.duration(seconds) for seconds in (4.25, 75.0, 7300.0)] == ["4.2 s", "1 min 15 s", "2 h 1 min"]
    assert [formatting.signed(value) for value in (0.5, -0.25, 0.0, None)] == ["+0.5", "-0.25", "0", "n/a"]


def test_a_long_text_is_cut_and_says_so() -> None:
    assert formatting.shorten("x" * 1510) == f"{'x' * 1500} [10 more characters]"
    assert formatting.shorten(None) == ""


def test_an_answer_is_marked_where_the_reference_has_something_else() -> None:
    found = spans("the third of June", "the third of May")
    assert [(span.text, span.differs) for span in found] == [("the third of ", False), ("June", True)]
    assert spans("", "the third of May") == []
    assert not any(span.differs for span in spans("the third", "the third"))
