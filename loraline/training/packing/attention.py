"""Block-diagonal causal attention for packed sequences.

transformers lets a model's attention be replaced by name, whatever its family. There are two. On CUDA in 16 bit,
torch's variable-length FlashAttention. Elsewhere, and for GPUs and head sizes that it does not take, sequences of
similar length are padded to a batch: no mask over the whole row is ever made, so that the cost grows with the squared
lengths of the sequences and not of the row, and because padding is on the right, the causal mask alone hides it.

Shapes: T tokens in the row, N sequences in a group, L their padded length, H heads, K key-value heads, D head size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from loraline.training.packing.batched_attention import AttentionSettings, causal_mask, matmul_attention
from loraline.training.packing.packed_sequences import PackedSequences, SequenceGroup, current_packed_sequences

VARLEN_ATTENTION, GROUPED_ATTENTION = "loraline_varlen", "loraline_grouped"
"""The names under which transformers knows them."""

_MAX_MATMUL_LENGTH = 640  # tokens up to which matrix products beat the fused kernel on a CPU in 16 bit (measured)
# Arguments from transformers that have no effect here: boundaries come from PackedSequences, and attention is causal.
_IGNORED_ARGUMENTS = {"position_ids", "cache_position", "position_embeddings", "attention_mask"}


class _Unsupported:
    """Why a call could not be computed. Recorded and not raised, because a model's own code may catch errors."""

    reason: str = ""


def take_unsupported_reason() -> str:
    """Return why packed attention could not compute a call since this was last asked; empty if it always could."""
    reason, _Unsupported.reason = _Unsupported.reason, ""
    return reason


def packed_attentions(device: torch.device, dtype: torch.dtype) -> list[str]:
    """Names of the attentions that may work on a device and in a dtype, the faster one first."""
    is_fast = device.type == "cuda" and dtype != torch.float32
    return [VARLEN_ATTENTION, GROUPED_ATTENTION] if is_fast else [GROUPED_ATTENTION]


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Compute causal attention within each sequence of a packed row. The signature is that of transformers.

    Args:
        query: shape (1, H, T, D).
        key: shape (1, K, T, D).
        value: shape (1, K, T, D).
        s_aux: attention sinks, shape (H,).

    Returns:
        Attention output of shape (1, T, H, D), and None in place of the attention weights.
    """
    settings = AttentionSettings(_scale(query, scaling), dropout, sliding_window, softcap, s_aux)
    return _attention(query, key, value, settings, others, _grouped), None


def varlen_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Compute what `grouped_attention` computes, by FlashAttention; in groups what that does not take.

    That are scores that are capped or dropped, and attention sinks.
    """
    settings = AttentionSettings(_scale(query, scaling), dropout, sliding_window, softcap, s_aux)
    in_groups = softcap or dropout or s_aux is not None
    return _attention(query, key, value, settings, others, _grouped if in_groups else _varlen), None


AttentionInterface.register(GROUPED_ATTENTION, grouped_attention)
AttentionInterface.register(VARLEN_ATTENTION, varlen_attention)


def _scale(query: Tensor, scaling: float | None) -> float:
    return float(scaling if scaling is not None else query.shape[-1] ** -0.5)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    settings: AttentionSettings,
    others: dict[str, Any],
    compute: Callable[[Tensor, Tensor, Tensor, PackedSequences, AttentionSettings], Tensor],
) -> Tensor:
    """Compute attention if the row is packed and nothing else is asked for; else record why not."""
    packed = current_packed_sequences()
    for name, argument in others.items():
        if isinstance(argument, Tensor) and name not in _IGNORED_ARGUMENTS:
            _Unsupported.reason = f"its attention takes {name}"
    if packed is None or query.shape[0] != 1 or query.shape[2] != sum(packed.group_sizes):
        _Unsupported.reason = "its attention does not get the packed row in its original shape"
        return query.transpose(1, 2)
    return compute(query, key, value, packed, settings)


def _grouped(query: Tensor, key: Tensor, value: Tensor, packed: PackedSequences, settings: AttentionSettings) -> Tensor:
    """Attention of each group of sequences of similar length."""
    queries, keys, values = (x[0].transpose(0, 1).split(packed.group_sizes) for x in (query, key, value))
    parts = zip(queries, keys, values, packed.groups, strict=True)
    return torch.cat([_group_attention(q, k, v, group, settings) for q, k, v, group in parts]).unsqueeze(0)


def _varlen(query: Tensor, key: Tensor, value: Tensor, packed: PackedSequences, settings: AttentionSettings) -> Tensor:
    """FlashAttention over sequences of any length, as torch ships it for CUDA in 16 bit."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    left = -1 if settings.window is None else settings.window - 1
    output: Any = varlen_attn(
        query,
        key,
        value,
        packed.cu_seqlens,
        packed.cu_seqlens,
        packed.max_seqlen,
        packed.max_seqlen,
        scale=settings.scale,
        window_size=(left, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    result: Tensor = output.unsqueeze(0)
    return result


def _group_attention(
    query: Tensor, key: Tensor, value: Tensor, group: SequenceGroup, settings: AttentionSettings
) -> Tensor:
    """Attention of one group: (tokens, H, D) and twice (tokens, K, D) to (tokens, H, D)."""
    shape = (group.sequences, group.length)
    q_NLHD, k_NLKD, v_NLKD = (
        (x if group.gather_indices is None else _Pad.apply(x, group.gather_indices, group.token_positions)).reshape(
            *shape, *x.shape[1:]
        )
        for x in (query, key, value)
    )
    is_short = query.device.type == "cpu" and query.dtype == torch.bfloat16 and group.length <= _MAX_MATMUL_LENGTH
    if settings.changes_scores or (is_short and not settings.dropout):
        output = matmul_attention(q_NLHD, k_NLKD, v_NLKD, group, settings)
    else:
        output = _fused_attention(q_NLHD, k_NLKD, v_NLKD, group, settings)
    output = output.reshape(-1, *output.shape[2:])
    return output if group.gather_indices is None else _Unpad.apply(output, group.token_positions)


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, group: SequenceGroup, settings: AttentionSettings
) -> Tensor:
    """torch's scaled_dot_product_attention; shapes (N, L, H or K, D)."""
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    if k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    mask = None
    if settings.window is not None and group.length > settings.window:
        mask = causal_mask(group, settings.window, 1, query)
    output = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=settings.dropout, is_causal=mask is None, scale=settings.scale
    )
    return output.transpose(1, 2)


class _Pad(torch.autograd.Function):
    """Tokens to padded positions. Padding gets no gradient, so that the backward pass is a plain selection."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, gather_indices: Tensor, token_positions: Tensor) -> Tensor:
        ctx.save_for_backward(token_positions)
        return tokens.index_select(0, gather_indices)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None


class _Unpad(torch.autograd.Function):
    """Padded positions to tokens."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, token_positions: Tensor) -> Tensor:
        ctx.save_for_backward(token_positions)
        ctx.shape = padded.shape
        return padded.index_select(0, token_positions)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0].new_zeros(ctx.shape)
        return gradient.index_copy_(0, ctx.saved_tensors[0], gradients[0]), None
