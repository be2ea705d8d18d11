"""Attention as batched matrix products, faster than the fused kernel for short sequences on a CPU in 16 bit.

Also the one way to compute soft-capped scores and attention sinks, which the fused kernel does not take.

Shapes: N sequences in a group, L their padded length, H heads, K key-value heads, D head size (of values it may be
another).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from loraline.training.packing.packed_sequences import SequenceGroup


@dataclass(frozen=True)
class AttentionSettings:
    """What a layer asks of its attention."""

    scale: float
    """Factor of the scores."""
    dropout: float
    window: int | None
    """Sliding window, in tokens; None: no window."""
    softcap: float | None
    """Bound of the scores (soft-capping with tanh); None: not capped."""
    sinks: Tensor | None = None
    """For each head the score of a key that has no value, shape (H,); None: there is no such key."""

    @property
    def changes_scores(self) -> bool:
        """Whether the fused kernel cannot compute it."""
        return bool(self.softcap) or self.sinks is not None


def matmul_attention(
    query: Tensor, key: Tensor, value: Tensor, group: SequenceGroup, settings: AttentionSettings
) -> Tensor:
    """Attention as matrix products over all heads of all sequences; shapes (N, L, H or K, D).

    Query heads that share a key-value head are concatenated along L, so that keys are never repeated.
    """
    n, length, heads, size = query.shape
    shared = heads // key.shape[2]
    q = query.unflatten(2, (-1, shared)).permute(0, 2, 3, 1, 4).reshape(-1, shared * length, size)
    k, v = (x.transpose(1, 2).reshape(-1, length, x.shape[-1]) for x in (key, value))
    mask = causal_mask(group, settings.window, shared, query)
    if settings.changes_scores:
        weights = _changed_weights(q, k, mask, settings, n).to(q.dtype)
        output = torch.bmm(functional.dropout(weights, settings.dropout), v)
    else:
        output = _MatmulAttention.apply(q, k, v, mask, settings.scale)
    output = output.reshape(n, -1, shared, length, value.shape[-1])
    return output.permute(0, 3, 1, 2, 4).reshape(n, length, heads, value.shape[-1])


def _changed_weights(q: Tensor, k: Tensor, mask: Tensor, settings: AttentionSettings, sequences: int) -> Tensor:
    """Attention weights of scores that are soft-capped, or share their softmax with a sink; float32."""
    scores = torch.baddbmm(q.new_zeros(()), q, k.transpose(1, 2), beta=0, alpha=settings.scale)
    if settings.softcap:
        scores = torch.tanh(scores / settings.softcap) * settings.softcap
    scores = scores + mask
    if settings.sinks is None:
        return torch.softmax(scores, -1, dtype=torch.float32)
    heads_of_each = settings.sinks.view(-1, scores.shape[1] // k.shape[1])  # (K, H / K)
    sinks = heads_of_each.repeat_interleave(k.shape[1], dim=1).repeat(sequences, 1).unsqueeze(-1).to(scores.dtype)
    return torch.softmax(torch.cat([scores, sinks], -1), -1, dtype=torch.float32)[..., :-1]


def causal_mask(group: SequenceGroup, window: int | None, repeats: int, like: Tensor) -> Tensor:
    """Return the additive mask, shape (repeats * L, L): minus infinity where a query must not attend."""
    key = (window, repeats, like.dtype)
    if key not in group.masks:
        ones = torch.ones(group.length, group.length, dtype=torch.bool, device=like.device)
        hidden = ones.triu(1)
        if window is not None:
            hidden |= ones.tril(-window)
        mask = torch.zeros(group.length, group.length, dtype=like.dtype, device=like.device)
        group.masks[key] = mask.masked_fill_(hidden, float("-inf")).repeat(repeats, 1)
    return group.masks[key]


class _MatmulAttention(torch.autograd.Function):
    """softmax(scale * Q K^T + mask) V for a batch; long rows of weights are recomputed in the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
        weights = _MatmulAttention.weights(q, k, mask, scale)
        keep = weights.shape[-1] <= 2 * q.shape[-1]  # they are no larger than queries and keys together
        ctx.save_for_backward(q, k, v, mask, weights if keep else None)
        ctx.scale = scale
        return torch.bmm(weights, v)

    @staticmethod
    def weights(q: Tensor, k: Tensor, mask: Tensor, scale: float) -> Tensor:
        return torch.softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale), -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, weights = ctx.saved_tensors
        (gradient,) = gradients
        if weights is None:
            weights = _MatmulAttention.weights(q, k, mask, ctx.scale)
        d_v = torch.bmm(weights.transpose(1, 2), gradient)
        d_weights = torch.bmm(gradient, v.transpose(1, 2))
        d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_q = torch.bmm(d_scores, k).mul_(ctx.scale)
        d_k = torch.bmm(d_scores.transpose(1, 2), q).mul_(ctx.scale)
        return d_q, d_k, d_v, None, None
