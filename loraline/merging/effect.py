"""How much of an adapter's effect a merged model has: 1 is all of it, 0 is none.

The effect is the change of the next token's log-probabilities by the adapter. The merged model's change is projected on
it: a merge with half the scale has 0.5, one that left out a layer lacks that layer's part, and noise without direction,
such as that of rounding, hardly counts.
"""

import math

import torch

_TOKENS = 64  # the most likely ones of each position, which is nearly all of the probability


class EffectMeter:
    """Projects the change that a merged model makes to its base on the change that the adapter makes."""

    def __init__(self) -> None:
        """Start with no sequence."""
        self._sequences: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._projected = self._squared = 0.0

    def add_adapter(self, adapter: torch.Tensor, base: torch.Tensor) -> None:
        """Add a sequence's logits of the adapter on its base and of the base alone, ``(tokens, vocabulary)``."""
        probabilities, tokens = torch.softmax(adapter, -1).topk(min(_TOKENS, adapter.shape[-1]))
        weights = probabilities / probabilities.sum(-1, keepdim=True)
        without = torch.log_softmax(base, -1).gather(-1, tokens)
        effect = _centered(torch.log_softmax(adapter, -1).gather(-1, tokens) - without, weights)
        self._sequences.append((tokens, weights, without, effect))
        self._squared += (weights * effect * effect).sum(dtype=torch.float64).item()

    def add_merged(self, number: int, merged: torch.Tensor) -> None:
        """Add the merged model's logits of the sequence that was added as the `number`-th, from 0 on."""
        tokens, weights, without, effect = self._sequences[number]
        change = _centered(torch.log_softmax(merged, -1).gather(-1, tokens) - without, weights)
        self._projected += (weights * effect * change).sum(dtype=torch.float64).item()

    def kept(self) -> float:
        """The part of the effect that the merged model has; NaN where the adapter has none."""
        return self._projected / self._squared if self._squared else math.nan


def _centered(change: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return change - (weights * change).sum(-1, keepdim=True)
