"""Intervals cover what they promise, tests are exact, and both are the same on every machine."""

import math

import numpy as np
import pytest
from scipy import stats

from loraline.evidence.statistics import SignTest, fewest_decisive, paired_bootstrap, sign_test

GOLDEN = (-0.03595890410958904, -0.10897435897435898, 0.043478260869565216)
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


def test_a_loss_is_compared_by_the_token() -> None:
    found = paired_bootstrap(["long", "short"], [90.0, 4.0], [0.0, 0.0], [90, 1])
    assert found.difference == 94 / 91  # the mean of means would be 2.5
    assert paired_bootstrap(["long", "short"], [90.0, 4.0], [0.0, 0.0]).difference == 47.0


@pytest.mark.parametrize("count", [20, 300])
def test_the_interval_is_that_of_scipy(count: int) -> None:
    one, other, tokens = losses(count)
    found = paired_bootstrap(names(count), one, other, tokens)
    differences = np.subtract(one, other)
    theirs = stats.bootstrap(
        (differences, np.array(tokens, float)),
        lambda nats, weights, axis=-1: nats.sum(axis) / weights.sum(axis),
        paired=True,
        method="BCa",
        n_resamples=10_000,
        rng=np.random.default_rng(5),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert found.lower == pytest.approx(theirs.low, abs=0.05 * width)
    assert found.upper == pytest.approx(theirs.high, abs=0.05 * width)


@pytest.mark.parametrize(("shape", "truth"), [("normal", 0.0), ("skewed", 0.1), ("binary", 0.1)])
def test_the_interval_covers_the_truth_as_often_as_it_says(shape: str, truth: float) -> None:
    random, count, draws = np.random.default_rng(11), 100, 400
    below = above = 0
    for draw in range(draws):
        if shape == "normal":
            differences = random.normal(0.0, 0.3, count)
        elif shape == "skewed":
            differences = random.exponential(0.5, count) - 0.4
        else:
            differences = random.choice([1.0, 0.0, -1.0], count, p=[0.25, 0.6, 0.15])
        ids = [f"{draw}-{i}" for i in range(count)]
        found = paired_bootstrap(ids, differences.tolist(), [0.0] * count, resamples=1000)
        assert found.lower is not None
        assert found.upper is not None
        below += found.upper < truth
        above += found.lower > truth
    # 2.5% a side; three standard errors of 400 draws are 2.3%.
    assert below / draws < 0.05
    assert above / draws < 0.05
    assert 0.02 < (below + above) / draws < 0.09


def test_a_wider_confidence_is_a_wider_interval() -> None:
    one, other, tokens = losses(100)
    narrow, wide = (paired_bootstrap(names(100), one, other, tokens, confidence) for confidence in (0.8, 0.99))
    assert narrow.lower is not None
    assert narrow.upper is not None
    assert wide.lower is not None
    assert wide.upper is not None
    assert wide.lower < narrow.lower < narrow.difference < narrow.upper < wide.upper


@pytest.mark.parametrize("count", [2, 7, 20, 301])
@pytest.mark.parametrize("weighted", [True, False])
def test_swapping_the_sides_negates_the_interval(count: int, weighted: bool) -> None:
    one, other, tokens = losses(count, seed=count)
    weights = tokens if weighted else None
    ours = paired_bootstrap(names(count), one, other, weights, resamples=2000)
    theirs = paired_bootstrap(names(count), other, one, weights, resamples=2000)
    assert ours.lower is not None
    assert ours.upper is not None
    assert (theirs.difference, theirs.lower, theirs.upper) == (-ours.difference, -ours.upper, -ours.lower)


def test_the_same_figures_give_the_same_bits_on_every_machine() -> None:
    one = [(7 * i % 11) / 8 for i in range(30)]
    other = [(5 * i % 13) / 8 for i in range(30)]
    found = paired_bootstrap(names(30), one, other, [1 + i % 4 for i in range(30)])
    assert (found.difference, found.lower, found.upper) == GOLDEN
    others = paired_bootstrap(["x", *names(29)], one, other, [1 + i % 4 for i in range(30)])
    assert others.difference == found.difference
    assert others != found, "other ids draw other samples"


@pytest.mark.parametrize("scale", [2.0**-300, 2.0**-20, 2.0**300])
def test_the_size_of_the_figures_does_not_matter(scale: float) -> None:
    one, other, tokens = losses(50)
    found = paired_bootstrap(names(50), [scale * x for x in one], [scale * x for x in other], tokens)
    plain = paired_bootstrap(names(50), one, other, tokens)
    assert found.difference == scale * plain.difference
    assert found.lower is not None
    assert found.lower / scale == pytest.approx(plain.lower, rel=0.2)


def test_what_gives_no_interval_gives_none() -> None:
    alone = paired_bootstrap(["one"], [3.0], [1.0], [4])
    assert (alone.difference, alone.lower, alone.upper) == (0.5, None, None)
    equal = paired_bootstrap(names(40), [0.25] * 40, [0.0] * 40)
    assert (equal.difference, equal.lower, equal.upper) == (0.25, 0.25, 0.25)
    nothing = paired_bootstrap(names(40), [1.0] * 40, [1.0] * 40)
    assert (nothing.difference, nothing.lower, nothing.upper) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("ids", "one", "other"),
    [([], [], []), (["a", "b"], [1.0], [1.0, 2.0]), (["a", "b"], [1.0, math.nan], [1.0, 2.0])],
)
def test_what_cannot_be_compared_is_an_error(ids: list[str], one: list[float], other: list[float]) -> None:
    with pytest.raises(ValueError, match=r"pairs are needed|not a finite number"):
        paired_bootstrap(ids, one, other)


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
