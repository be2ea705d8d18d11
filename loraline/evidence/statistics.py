"""Is a difference between two models more than chance? Intervals and tests over paired examples.

Both models answer the same examples, so that every figure here rests on the difference within each pair: what makes an
example hard for one makes it hard for the other, and drops out. No interval is a bootstrap: with 20 to 50 examples its
ends are too near, and what should pass once in 40 times passes once in ten.

Scores between 0 and 1, such as exact match: a bound by betting (`score_interval`). A gambler who stakes on the mean
being above m multiplies his money by 1 / alpha with a chance of at most alpha where it is not (Ville's inequality), so
that every m at which he does so can be ruled out. That holds for any distribution and any number of examples.

Losses have no bound, and without one no method has a guarantee (Bahadur and Savage 1956). Their interval is Student's,
with Hall's transformation, which removes the skewness that it estimates (`loss_interval`). The skewness of small
samples comes out too small and is enlarged, and each end is computed for half the error that it is promised for: then
the promise holds for shapes as skewed as a lognormal's. How often it misses is measured for many shapes
(`tests/loraline/evidence/false_passes.py`; the table is in docs/statistics.md).

Every figure is to the bit the same on every machine: sums are exact in any order, the rest is IEEE's basic operations
but for a logarithm and a root, whose last bit is rounded away.

- Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024.
- Hall, "On the removal of skewness by transformation", JRSS B 1992.
- Bahadur and Savage, "The nonexistence of certain statistical procedures in nonparametric problems", 1956.
- Dror, Baumer, Shlomov, Reichart, "The hitchhiker's guide to testing statistical significance in natural language
  processing", ACL 2018.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

_STAKE = 0.75  # the largest part of his money that the gambler may lose on one example
_PRIOR_VARIANCE = 0.1  # of a difference of scores, before any is seen
_BISECTIONS = 36
_LOSS_ERROR = 0.5  # part of the promised error that an end of a loss's interval is computed for
_SMALL_SAMPLE_SKEWNESS = 15.0  # skewness is enlarged by this over the number of examples
_FEWEST_EFFECTIVE = 5.0  # examples, below which one text outweighs the others
_DIGITS = 12


@dataclass(frozen=True)
class Interval:
    """A difference of means, and between which ends it lies. The ends are None where there is no interval."""

    difference: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class SignTest:
    """How often each side did better, and how likely a split as uneven as that is by chance."""

    wins: int
    losses: int
    ties: int
    p_value: float
    """Two-sided; 1 where no pair differs."""


def score_interval(ids: Sequence[str], one: Sequence[float], other: Sequence[float], confidence: float) -> Interval:
    """The interval of the mean of `one` minus `other`, scores between 0 and 1: exact for any number of examples.

    Each end is wrong with a chance of at most (1 - confidence) / 2. The examples are taken in the order of a digest of
    their ids, so that the order in which they are given does not matter. Swapping the sides negates the interval.

    Args:
        ids: of the examples.
        one: a score for each example.
        other: the same of the other side.
        confidence: of the interval, two-sided, between 0 and 1.

    Raises:
        ValueError: there is no example, the lengths differ, or a score is not between 0 and 1.
    """
    _require_pairs(ids, one, other)
    if not all(0 <= score <= 1 for side in (one, other) for score in side):
        raise ValueError("a score is not between 0 and 1")
    order = sorted(range(len(ids)), key=lambda i: (hashlib.sha256(ids[i].encode()).digest(), i))
    differences = [one[i] - other[i] for i in order]
    mean = math.fsum(differences) / len(differences)
    alpha = (1 - confidence) / 2
    lower = _betting_bound(differences, alpha)
    upper = -_betting_bound([-difference for difference in differences], alpha)
    return Interval(mean, min(lower, mean), max(upper, mean))


def loss_interval(one: Sequence[float], other: Sequence[float], tokens: Sequence[int], confidence: float) -> Interval:
    """The interval of ``sum(one - other) / sum(tokens)``: the difference of losses a token, as those are defined.

    An end is the farther one of Student's and Hall's. Swapping the sides negates the interval. There is none where the
    weights are those of fewer than five examples, as one text outweighs the others, or there are no more. Where all
    examples differ by the same a token, the interval is that value.

    Args:
        one: nats of each example, finite.
        other: the same of the other side.
        tokens: of each example, positive.
        confidence: of the interval, two-sided, between 0 and 1.

    Raises:
        ValueError: there is no example, the lengths differ, or a figure is not finite.
    """
    _require_pairs(tokens, one, other)
    differences = [a - b for a, b in zip(one, other, strict=True)]
    total = sum(tokens)
    mean = math.fsum(differences) / total
    effective = total * total / sum(count * count for count in tokens)
    if effective < _FEWEST_EFFECTIVE:
        return Interval(mean, None, None)
    # Divided by what the others weigh: an example pulls the mean towards itself.
    residuals = [
        (difference - mean * count) * total / (total - count)
        for difference, count in zip(differences, tokens, strict=True)
    ]
    spread = math.fsum(residual * residual for residual in residuals)
    if spread <= 1e-24 * math.fsum(difference * difference for difference in differences):
        return Interval(mean, mean, mean)
    skewness = math.fsum(residual**3 for residual in residuals) / (spread * math.sqrt(spread / len(tokens)))
    skewness *= 1 + _SMALL_SAMPLE_SKEWNESS / effective
    error = _LOSS_ERROR * (1 - confidence) / 2
    student = _student_quantile(1 - error, effective - 1) / math.sqrt(effective)
    scale = math.sqrt(spread * effective) / total
    below, above = (max(student, _without_skewness(student, sign * skewness, effective)) for sign in (1, -1))
    return Interval(mean, _rounded(mean - scale * below), _rounded(mean + scale * above))


def sign_test(differences: Sequence[float]) -> SignTest:
    """Exact test of whether one side does better more often than the other: a binomial over the pairs that differ.

    For figures that are 0 or 1, such as exact match, it is McNemar's exact test. Pairs that do not differ say
    nothing and are left out; where none differs, the p-value is 1.
    """
    wins = sum(1 for difference in differences if difference > 0)
    losses = sum(1 for difference in differences if difference < 0)
    decided = wins + losses
    # Sums of binomial coefficients, as whole numbers: exact for any number of pairs.
    ways, coefficient = 0, 1
    for k in range(min(wins, losses) + 1):
        ways += coefficient
        coefficient = coefficient * (decided - k) // (k + 1)
    return SignTest(wins, losses, len(differences) - decided, min(1.0, 2 * ways / (1 << decided)))


def fewest_decisive(confidence: float) -> int:
    """How many pairs must differ before any split of them can be distinguished from chance at this confidence."""
    return math.ceil(1 - math.log2(1 - confidence))


def _require_pairs(keys: Sequence[object], one: Sequence[float], other: Sequence[float]) -> None:
    if not keys or any(len(values) != len(keys) for values in (one, other)):
        raise ValueError(f"{len(keys)} examples, {len(one)} and {len(other)} figures: pairs are needed, at least one")
    if not all(math.isfinite(value) for side in (one, other) for value in side):
        raise ValueError("a figure is not a finite number")


def _betting_bound(values: Sequence[float], alpha: float) -> float:
    """The largest mean that can be ruled out for values between -1 and 1, with an error of at most alpha."""
    stakes = _stakes(values, alpha)
    low, high = -1.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _multiplies(values, stakes, middle, 1 / alpha):
            low = middle
        else:
            high = middle
    return _rounded(low)


def _stakes(values: Sequence[float], alpha: float) -> list[float]:
    """What to bet on each value, from the variance of those before it: the best bet for this many of them."""
    aim = 2 * math.log(1 / alpha) / len(values)
    total, squares, stakes = 0.0, _PRIOR_VARIANCE, []
    for seen, value in enumerate(values, start=1):
        stakes.append(math.sqrt(aim * seen / squares))
        total += value
        squares += (value - total / (seen + 1)) ** 2
    return stakes


def _multiplies(values: Sequence[float], stakes: Sequence[float], mean: float, wanted: float) -> bool:
    """Whether the gambler, for whom bets on this mean are fair, ever has so many times his money."""
    money, most = 1.0, _STAKE / (1 + mean)
    for value, stake in zip(values, stakes, strict=True):
        money *= 1 + min(stake, most) * (value - mean)
        if money >= wanted:
            return True
    return False


def _without_skewness(student: float, skewness: float, count: float) -> float:
    """Hall's inverse transformation of a quantile; both are in standard deviations of one example."""
    if abs(skewness) < 1e-6:
        return student
    cubed = 1 + skewness * (student - skewness / (6 * count))
    return 3 / skewness * (math.copysign(abs(cubed) ** (1 / 3), cubed) - 1)


def _student_quantile(probability: float, freedom: float) -> float:
    """A quantile of Student's distribution, expanded in powers of 1 / freedom; within 0.2% from 4 degrees on."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


def _rounded(value: float) -> float:
    """To as many digits as every machine's logarithms and roots agree on."""
    return float(f"{value:.{_DIGITS}g}")
