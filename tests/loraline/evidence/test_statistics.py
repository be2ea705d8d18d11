"""Intervals hold what they promise, tests are exact, and both are the same on every machine."""

import math

import numpy as np
import pytest
from scipy import stats

from loraline.evidence import statistics
from loraline.evidence.statistics import Interval, SignTest, fewest_decisive, loss_interval, score_interval, sign_test

GOLDEN_LOSS = (-0.03595890410958904, -0.134204962435, 0.0622687091454)
GOLDEN_SCORE = (0.13333333333333333, -0.173283411626, 0.204693043372)
"""Difference, lower and upper end, as first computed."""


def names(count: int) -> list[str]:
    return [f"example-{i}" for i in range(count)]


def losses(count: int, seed: int = 0) -> tuple[list[float], list[float], list[int]]:
    """Nats of two models on texts of 3 to 40 tokens, and the tokens; the first is worse by 0.1 a token."""
    random = np.random.default_rng(seed)
    tokens = random.integers(3, 40, count)
    other = tokens * random.gamma(2.0, 0.5, count)
    one = other + tokens * (0.1 + random.exponential(0.5, count) - 0.5)
    return one.tolist(), other.tolist(), tokens.tolist()


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.lower is not None
    assert interval.upper is not None
    return interval.lower, interval.upper


def test_a_loss_is_compared_by_the_token() -> None:
    found = loss_interval([90.0, *[4.0] * 9], [0.0] * 10, [90, *[1] * 9], 0.95)
    assert found.difference == (90 + 36) / 99  # the mean of means would be 3.7


def test_a_loss_that_is_not_skewed_has_students_interval_at_half_the_error() -> None:
    differences = [float(i) for i in range(-30, 31)]
    low, high = ends(loss_interval(differences, [0.0] * 61, [1] * 61, 0.95))
    # As an example's residual is divided by what the others weigh, the variance is that of n - 1 twice over.
    expected = stats.t.ppf(1 - 0.0125, 60) * np.std(differences, ddof=1) / math.sqrt(60)
    assert high == pytest.approx(expected, rel=1e-3)
    assert low == -high


@pytest.mark.parametrize(("probability", "freedom"), [(0.9, 4.0), (0.9875, 8.5), (0.9875, 19.0), (0.9975, 49.0)])
def test_students_quantiles(probability: float, freedom: float) -> None:
    assert statistics._student_quantile(probability, freedom) == pytest.approx(
        stats.t.ppf(probability, freedom), rel=2e-3
    )


def test_the_skewed_end_is_farther() -> None:
    losing = (-np.random.default_rng(3).exponential(size=100)).tolist()
    found = loss_interval(losing, [0.0] * 100, [7] * 100, 0.95)
    low, high = ends(found)
    assert found.difference - low > 1.1 * (high - found.difference)


def test_a_score_is_ruled_out_where_its_chance_is_too_small() -> None:
    # 1 - 0.0125 and more of a hundred equal answers: 0.975 ** 100 is 8%, 0.95 ** 100 is 0.6%.
    low, high = ends(score_interval(names(100), [1.0] * 100, [1.0] * 100, 0.95))
    assert -0.05 < low < -0.036
    assert high == -low


def test_a_wider_confidence_is_a_wider_interval() -> None:
    one, other, tokens = losses(100)
    scores = ([float(i % 3 == 0) for i in range(100)], [float(i % 4 == 0) for i in range(100)])
    for narrow, wide in (
        (loss_interval(one, other, tokens, 0.8), loss_interval(one, other, tokens, 0.99)),
        (score_interval(names(100), *scores, 0.8), score_interval(names(100), *scores, 0.99)),
    ):
        inner, outer = ends(narrow), ends(wide)
        assert outer[0] < inner[0] < narrow.difference < inner[1] < outer[1]


@pytest.mark.parametrize("count", [7, 20, 301])
def test_swapping_the_sides_negates_the_interval(count: int) -> None:
    one, other, tokens = losses(count, seed=count)
    better, worse = ([min(1.0, value / 9) for value in side] for side in (one, other))
    for ours, theirs in (
        (loss_interval(one, other, tokens, 0.95), loss_interval(other, one, tokens, 0.95)),
        (
            score_interval(names(count), [max(0.0, b) for b in better], worse, 0.95),
            score_interval(names(count), worse, [max(0.0, b) for b in better], 0.95),
        ),
    ):
        low, high = ends(ours)
        assert (theirs.difference, theirs.lower, theirs.upper) == (-ours.difference, -high, -low)


def test_the_same_figures_give_the_same_digits_on_every_machine() -> None:
    one = [(7 * i % 11) / 8 for i in range(30)]
    other = [(5 * i % 13) / 8 for i in range(30)]
    found = loss_interval(one, other, [1 + i % 4 for i in range(30)], 0.95)
    assert (found.difference, found.lower, found.upper) == GOLDEN_LOSS
    scores = [float(7 * i % 11 < 6) for i in range(30)], [float(5 * i % 13 < 5) for i in range(30)]
    found = score_interval(names(30), *scores, 0.95)
    assert (found.difference, found.lower, found.upper) == GOLDEN_SCORE
    order = list(range(30))[::-1]
    shuffled = [names(30)[i] for i in order], *([side[i] for i in order] for side in scores)
    assert score_interval(*shuffled, 0.95) == found


@pytest.mark.parametrize("scale", [2.0**-300, 2.0**-20, 2.0**100])
def test_the_size_of_the_losses_does_not_matter(scale: float) -> None:
    one, other, tokens = losses(50)
    found = loss_interval([scale * x for x in one], [scale * x for x in other], tokens, 0.95)
    plain = loss_interval(one, other, tokens, 0.95)
    assert found.difference == scale * plain.difference
    assert [end / scale for end in ends(found)] == pytest.approx(ends(plain), rel=1e-9)


def test_what_gives_no_interval_gives_none() -> None:
    alone = loss_interval([3.0], [1.0], [4], 0.95)
    assert (alone.difference, alone.lower, alone.upper) == (0.5, None, None)
    one_text_outweighs = loss_interval([3.0, *[1.0] * 30], [1.0] * 31, [1000, *[1] * 30], 0.95)
    assert one_text_outweighs.lower is None
    equal = loss_interval([0.25] * 40, [0.0] * 40, [1] * 40, 0.95)
    assert (equal.difference, equal.lower, equal.upper) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("one", "other"),
    [([], []), ([1.0], [1.0, 2.0]), ([1.0, math.nan], [1.0, 2.0])],
)
def test_what_cannot_be_compared_is_an_error(one: list[float], other: list[float]) -> None:
    for interval in (
        lambda: loss_interval(one, other, [1] * len(other), 0.95),
        lambda: score_interval(names(len(other)), one, other, 0.95),
    ):
        with pytest.raises(ValueError, match=r"pairs are needed|not a finite number"):
            interval()


def test_a_score_above_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        score_interval(names(2), [1.0, 1.5], [0.0, 1.0], 0.95)


@pytest.mark.parametrize(("wins", "lost"), [(0, 0), (1, 0), (6, 0), (4, 3), (3, 3), (17, 40), (600, 500)])
def test_the_sign_test_is_the_binomial_one(wins: int, lost: int) -> None:
    found = sign_test([1.0] * wins + [-0.5] * lost + [0.0] * 9)
    p_value = stats.binomtest(wins, wins + lost).pvalue if wins + lost else 1.0
    assert found == SignTest(wins, lost, 9, pytest.approx(p_value, rel=1e-12))
    mirrored = sign_test([-1.0] * wins + [0.5] * lost)
    assert (mirrored.wins, mirrored.losses, mirrored.p_value) == (lost, wins, found.p_value)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
def test_the_fewest_decisive_pairs_can_just_be_told_from_chance(confidence: float) -> None:
    fewest = fewest_decisive(confidence)
    assert sign_test([1.0] * fewest).p_value <= 1 - confidence < sign_test([1.0] * (fewest - 1)).p_value
