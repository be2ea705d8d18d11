"""Attention for documents that lie behind one another in one row, each seeing itself alone.

transformers lets a model's attention be replaced by name, whatever its family. Ours takes the row apart:
documents of about the same length are padded to a batch and attended together. No mask over the whole row is
ever made, so the work grows with the documents' lengths squared and not with the row's, and because padding
is on the right, the causal mask alone keeps it from being seen.

Shapes: T tokens in the row, N documents in a group, L their padded length, H heads, K key-value heads, D head size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

PACKED = "loraline_packed"
"""The name under which transformers knows this attention."""

_SHORT = 640  # tokens up to which batched matrix products beat the fused kernel on a CPU in 16 bit (measured)
_MOST_PADDING = 0.2  # of a group's longest document; 16 tokens are always allowed
# What transformers passes along that does not change the result here: packing is ours, and causal is what we do.
_WITHOUT_EFFECT = {"position_ids", "cache_position", "position_embeddings", "attention_mask"}


@dataclass
class _Group:
    """Neighbouring documents of about the same length."""

    documents: int
    length: int
    tokens: int
    slots: Tensor | None
    """For each of the N * L places the token that fills it; padding repeats one. None: nothing to pad."""
    places: Tensor | None
    """For each token its place, the way back."""
    masks: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)


class Layout:
    """Where the documents of a row lie; made once for a row and used by every layer."""

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        """Group documents, longest first.

        Args:
            lengths: tokens of each document in the order of the row, descending, shape (documents,).
            device: where the row is.
        """
        self.groups = [_group(part, device) for part in _similar(lengths)]
        self.sizes = [group.tokens for group in self.groups]
        self.longest = int(lengths[0])
        self.bounds = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=device)


def _similar(lengths: np.ndarray) -> list[np.ndarray]:
    """Cut descending lengths into groups that waste little when padded to their longest."""
    groups, start = [], 0
    for i in range(1, len(lengths) + 1):
        least = lengths[start] - max(16, int(_MOST_PADDING * lengths[start]))
        if i == len(lengths) or lengths[i] < least:
            groups.append(lengths[start:i])
            start = i
    return groups


def _group(lengths: np.ndarray, device: torch.device) -> _Group:
    count, longest, tokens = len(lengths), int(lengths[0]), int(lengths.sum())
    if count * longest == tokens:
        return _Group(count, longest, tokens, None, None)
    starts = np.cumsum(lengths) - lengths
    within = np.minimum(np.arange(longest)[None, :], lengths[:, None] - 1)
    slots = torch.from_numpy((starts[:, None] + within).reshape(-1)).to(device)
    real = (np.arange(longest)[None, :] < lengths[:, None]).reshape(-1)
    return _Group(count, longest, tokens, slots, torch.from_numpy(np.flatnonzero(real)).to(device))


class _Rows:
    """The row that is being computed, which attention has no argument for."""

    current: Layout | None = None
    refused: str = ""
    """Why a call could not be answered with what this attention can do."""


@contextmanager
def packed(layout: Layout | None) -> Iterator[None]:
    """Say how the row lies that the model is about to see, forward and backward. None: not packed."""
    _Rows.current = layout
    try:
        yield
    finally:
        _Rows.current = None


def refusal() -> str:
    """Why packed attention could not serve a model, since the last time that was asked; empty if it could."""
    reason, _Rows.refused = _Rows.refused, ""
    return reason


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend within documents. The signature is transformers'.

    Args:
        query: shape (1, H, T, D).
        key: shape (1, K, T, D).
        value: shape (1, K, T, D).

    Returns:
        Attention output of shape (1, T, H, D), and no weights.
    """
    layout = _Rows.current
    for name, given in others.items():
        if isinstance(given, Tensor) and name not in _WITHOUT_EFFECT:
            _Rows.refused = f"its attention takes {name}"
    if layout is None or query.shape[0] != 1 or query.shape[2] != sum(layout.sizes):
        _Rows.refused = "its attention does not see the row as it is"
        return query.transpose(1, 2), None
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    settings = _Settings(scale, dropout, sliding_window, softcap)
    if query.is_cuda and query.dtype != torch.float32 and not softcap and not dropout:
        return _varlen(query, key, value, layout, settings), None
    queries, keys, values = (x[0].transpose(0, 1).split(layout.sizes) for x in (query, key, value))
    parts = zip(queries, keys, values, layout.groups, strict=True)
    outputs = [_attend(q, k, v, group, settings) for q, k, v, group in parts]
    return torch.cat(outputs).unsqueeze(0), None


AttentionInterface.register(PACKED, packed_attention)


@dataclass(frozen=True)
class _Settings:
    scale: float
    dropout: float
    window: int | None
    softcap: float | None


def _varlen(query: Tensor, key: Tensor, value: Tensor, layout: Layout, settings: _Settings) -> Tensor:
    """FlashAttention over documents of any length, as torch carries it for CUDA in 16 bit."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    left = -1 if settings.window is None else settings.window - 1
    output: Any = varlen_attn(
        query,
        key,
        value,
        layout.bounds,
        layout.bounds,
        layout.longest,
        layout.longest,
        scale=settings.scale,
        window_size=(left, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    result: Tensor = output.unsqueeze(0)
    return result


def _attend(query: Tensor, key: Tensor, value: Tensor, group: _Group, settings: _Settings) -> Tensor:
    """Attention of one group: (tokens, H, D) and twice (tokens, K, D) to (tokens, H, D)."""
    shape = (group.documents, group.length)
    q_NLHD, k_NLKD, v_NLKD = (
        (x if group.slots is None else _Pad.apply(x, group.slots, group.places)).reshape(*shape, *x.shape[1:])
        for x in (query, key, value)
    )
    short = query.device.type == "cpu" and query.dtype == torch.bfloat16 and group.length <= _SHORT
    if settings.softcap or (short and not settings.dropout):
        output = _with_products(q_NLHD, k_NLKD, v_NLKD, group, settings)
    else:
        output = _with_kernel(q_NLHD, k_NLKD, v_NLKD, group, settings)
    output = output.reshape(-1, *output.shape[2:])
    return output if group.slots is None else _Unpad.apply(output, group.places)


def _with_kernel(query: Tensor, key: Tensor, value: Tensor, group: _Group, settings: _Settings) -> Tensor:
    """torch's fused attention; shapes (N, L, H or K, D)."""
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    if k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    mask = None
    if settings.window is not None and group.length > settings.window:
        mask = _mask(group, settings.window, 1, query)
    output = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=settings.dropout, is_causal=mask is None, scale=settings.scale
    )
    return output.transpose(1, 2)


def _with_products(query: Tensor, key: Tensor, value: Tensor, group: _Group, settings: _Settings) -> Tensor:
    """Attention as matrix products over all heads of all documents; shapes (N, L, H or K, D).

    Query heads that share a key-value head lie behind one another, so that keys are never repeated.
    """
    n, length, heads, size = query.shape
    shared = heads // key.shape[2]
    q = query.unflatten(2, (-1, shared)).permute(0, 2, 3, 1, 4).reshape(-1, shared * length, size)
    k, v = (x.transpose(1, 2).reshape(-1, length, size) for x in (key, value))
    mask = _mask(group, settings.window, shared, query)
    if settings.softcap:
        scores = torch.baddbmm(q.new_zeros(()), q, k.transpose(1, 2), beta=0, alpha=settings.scale)
        scores = torch.tanh(scores / settings.softcap) * settings.softcap + mask
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(q.dtype)
        output = torch.bmm(functional.dropout(weights, settings.dropout), v)
    else:
        output = _Products.apply(q, k, v, mask, settings.scale)
    return output.reshape(n, -1, shared, length, size).permute(0, 3, 1, 2, 4).reshape(n, length, heads, size)


def _mask(group: _Group, window: int | None, repeats: int, like: Tensor) -> Tensor:
    """What is added to the scores, shape (repeats * L, L): minus infinity where a query must not look."""
    key = (window, repeats, like.dtype)
    if key not in group.masks:
        ones = torch.ones(group.length, group.length, dtype=torch.bool, device=like.device)
        hidden = ones.triu(1)
        if window is not None:
            hidden |= ones.tril(-window)
        mask = torch.zeros(group.length, group.length, dtype=like.dtype, device=like.device)
        group.masks[key] = mask.masked_fill_(hidden, float("-inf")).repeat(repeats, 1)
    return group.masks[key]


class _Products(torch.autograd.Function):
    """softmax(scale * Q K^T + mask) V for a batch, with short rows kept for the backward pass and long ones redone."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
        weights = _Products.weights(q, k, mask, scale)
        keep = weights.shape[-1] <= 2 * q.shape[-1]  # they weigh no more than the queries and keys themselves
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
            weights = _Products.weights(q, k, mask, ctx.scale)
        d_v = torch.bmm(weights.transpose(1, 2), gradient)
        d_weights = torch.bmm(gradient, v.transpose(1, 2))
        d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_q = torch.bmm(d_scores, k).mul_(ctx.scale)
        d_k = torch.bmm(d_scores.transpose(1, 2), q).mul_(ctx.scale)
        return d_q, d_k, d_v, None, None


class _Pad(torch.autograd.Function):
    """Tokens to padded places. Padding gets no gradient, so the way back is a plain selection."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, slots: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return tokens.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None


class _Unpad(torch.autograd.Function):
    """Padded places to tokens."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.shape = padded.shape
        return padded.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0].new_zeros(ctx.shape)
        return gradient.index_copy_(0, ctx.saved_tensors[0], gradients[0]), None
