"""How far the outputs of two models are from one another: logits and next-token distributions."""

import math
from dataclasses import dataclass

import torch

from loraline.artifacts.merging import KlReport

_HIGH = 0.99


@dataclass(frozen=True)
class PositionStatistics:
    """Mean and maximum over all positions; either may be NaN."""

    mean: float
    max: float


@dataclass(frozen=True)
class Divergence:
    """Differences between two models over all positions of some sequences."""

    logits: PositionStatistics
    """Absolute difference of the logits, over positions and vocabulary."""
    kl_divergence: KlReport
    """Kullback-Leibler divergence of the next-token distribution, over positions, in nats."""


class _RunningMeanMax:
    """Mean and maximum of values that are added in parts."""

    def __init__(self) -> None:
        self._max, self._sum, self._count = 0.0, 0.0, 0

    def add(self, values: torch.Tensor) -> None:
        # torch's max propagates NaN, Python's does not.
        self._max = float(torch.tensor([self._max, values.max().item()]).max())
        self._sum += values.sum(dtype=torch.float64).item()
        self._count += values.numel()

    def result(self) -> PositionStatistics:
        return PositionStatistics(mean=self._sum / self._count, max=self._max)


class DivergenceMeter:
    """Accumulates the divergence of a model from a reference, sequence by sequence."""

    def __init__(self) -> None:
        """Start with no positions."""
        self._logits = _RunningMeanMax()
        self._kl_divergences: list[torch.Tensor] = []

    def add(self, reference: torch.Tensor, other: torch.Tensor) -> None:
        """Add the logits of both models on one sequence, shape ``(tokens, vocabulary)``: KL(reference || other)."""
        self._logits.add((reference - other).abs())
        p, q = torch.log_softmax(reference, -1), torch.log_softmax(other, -1)
        self._kl_divergences.append((p.exp() * (p - q)).sum(-1).clamp_min(0.0))  # rounding can make it -1e-8

    def result(self) -> Divergence:
        """The divergence over all positions so far."""
        values = torch.cat(self._kl_divergences).double()
        high = math.nan if values.isnan().any() else values.quantile(_HIGH).item()
        found = KlReport(mean=values.mean().item(), p99=high, max=values.max().item())
        return Divergence(self._logits.result(), found)
