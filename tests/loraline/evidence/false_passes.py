"""How often a model without any gain passes: `python -m tests.loraline.evidence.false_passes` prints the table.

Each shape has a true mean difference of exactly the threshold. A false pass is an interval whose lower end lies above
it. At a confidence of 95% it may happen in 2.5% of all draws.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from loraline.evidence.statistics import Interval, loss_interval, score_interval

Generator = np.random.Generator
COUNTS = (20, 30, 50, 100, 200)


@dataclass(frozen=True)
class Shape:
    """A distribution of differences, and what draws one sample's interval from it."""

    name: str
    allowed: dict[int, float]
    """Largest rate of false passes (0 to 1) that the documentation states, from so many examples on."""
    interval: Callable[[Generator, int], Interval]
    truth: float

    def rate(self, count: int, draws: int, seed: int = 5) -> float:
        """Part of the draws in which the lower end lies above the truth."""
        random = np.random.default_rng(seed)
        found = (self.interval(random, count) for _ in range(draws))
        return sum(one.lower is not None and one.lower > self.truth for one in found) / draws

    def limit(self, count: int) -> float:
        """The stated rate at so many examples."""
        return self.allowed[max(least for least in self.allowed if least <= count)]


def _scores(one: list[float], other: list[float], odds: list[float]) -> Callable[[Generator, int], Interval]:
    """Pairs of scores, each with its probability."""

    def draw(random: Generator, count: int) -> Interval:
        drawn = random.choice(len(odds), count, p=odds)
        ids = [str(i) for i in range(count)]
        return score_interval(ids, [one[i] for i in drawn], [other[i] for i in drawn], 0.95)

    return draw


def _losses(per_token: Callable[[Generator, int], np.ndarray], spread: float) -> Callable[[Generator, int], Interval]:
    """Differences a token, on texts whose lengths are lognormal with this spread (0: all alike)."""

    def draw(random: Generator, count: int) -> Interval:
        tokens = np.maximum(1, np.rint(100 * random.lognormal(0.0, spread, count))).astype(int)
        difference = tokens * per_token(random, count)
        return loss_interval(difference.tolist(), [0.0] * count, tokens.tolist(), 0.95)

    return draw


_NOMINAL = {20: 0.025}
SCORES = (
    Shape("exact match: 6 of 20 examples differ", _NOMINAL, _scores([1, 0, 0], [0, 1, 0], [0.15, 0.15, 0.7]), 0.0),
    Shape("exact match: 1 of 10 differs", _NOMINAL, _scores([1, 0, 0], [0, 1, 0], [0.05, 0.05, 0.9]), 0.0),
    Shape("exact match: a gain of 0.5", _NOMINAL, _scores([1, 0, 0], [0, 1, 0], [0.55, 0.05, 0.4]), 0.5),
    Shape("exact match: 0.05 worse", _NOMINAL, _scores([0, 1], [1, 1], [0.05, 0.95]), -0.05),
    Shape("F1: many gain 0.05, few lose 1", _NOMINAL, _scores([0.5, 0], [0.45, 1], [20 / 21, 1 / 21]), 0.0),
)


def _shapes_of_losses(spread: float, suffix: str, allowed: dict[str, dict[int, float]]) -> Iterator[Shape]:
    drawn: dict[str, tuple[Callable[[Generator, int], np.ndarray], float]] = {
        "normal": (lambda random, n: random.normal(size=n), 0.0),
        "heavy tails (Student, 3 degrees)": (lambda random, n: random.standard_t(3, n), 0.0),
        "exponential, few lose much": (lambda random, n: -random.exponential(size=n), -1.0),
        "gamma 0.5, few lose much": (lambda random, n: -random.gamma(0.5, size=n), -0.5),
        "lognormal, few lose very much": (lambda random, n: -random.lognormal(size=n), -float(np.exp(0.5))),
        "exponential, few gain much": (lambda random, n: random.exponential(size=n), 1.0),
    }
    for name, (per_token, truth) in drawn.items():
        yield Shape(f"{name}{suffix}", allowed.get(name, _NOMINAL), _losses(per_token, spread), truth)


LOSSES = tuple(_shapes_of_losses(0.0, "", {}))
UNEVEN_LOSSES = tuple(
    _shapes_of_losses(
        0.7,
        "; lengths vary",
        {
            "exponential, few lose much": {20: 0.035, 100: 0.025},
            "gamma 0.5, few lose much": {20: 0.04, 50: 0.03, 100: 0.025},
            "lognormal, few lose very much": {20: 0.055, 30: 0.045, 100: 0.035, 200: 0.03},
        },
    )
)
SHAPES = (*SCORES, *LOSSES, *UNEVEN_LOSSES)


def main(draws: int = 10_000) -> None:
    """Print the table of docs/statistics.md. Scores are drawn a fifth as often: they are slow, and proven."""
    print("| differences | " + " | ".join(str(count) for count in COUNTS) + " |")
    print("|---|" + "---:|" * len(COUNTS))
    for shape in SHAPES:
        rates = (f"{100 * shape.rate(count, draws // 5 if shape in SCORES else draws):.1f}%" for count in COUNTS)
        print(f"| {shape.name} | " + " | ".join(rates) + " |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
