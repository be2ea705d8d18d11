"""A model without any gain passes no more often than the documentation states, down to the fewest examples allowed."""

import math

import pytest

from loraline.gate.config import GateConfig
from tests.loraline.evidence.false_passes import COUNTS, LOSSES, SCORES, SHAPES, UNEVEN_LOSSES, Shape

FEWEST = 20


def assert_holds(shape: Shape, count: int, draws: int) -> None:
    """The rate is within the stated one, up to three standard errors of the simulation."""
    allowed = shape.limit(count)
    assert shape.rate(count, draws) <= allowed + 3 * math.sqrt(allowed / draws)


def test_fewer_examples_than_the_simulation_covers_cannot_be_asked_for() -> None:
    assert min(COUNTS) == FEWEST
    with pytest.raises(ValueError, match="greater than or equal to 20"):
        GateConfig(min_examples=FEWEST - 1)


@pytest.mark.parametrize("shape", [*SCORES, *LOSSES, UNEVEN_LOSSES[2]], ids=lambda shape: shape.name)
def test_a_model_without_gain_seldom_passes(shape: Shape) -> None:
    assert_holds(shape, FEWEST, draws=200 if shape in SCORES else 2000)


@pytest.mark.simulation
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_model_without_gain_passes_as_seldom_as_stated(shape: Shape, count: int) -> None:
    assert_holds(shape, count, draws=2_000 if shape in SCORES else 10_000)
