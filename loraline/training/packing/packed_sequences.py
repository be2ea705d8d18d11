"""Boundaries of the sequences in a packed row, and which packed row is being computed.

Attention has no argument for the boundaries, so that they are set around a forward and backward pass with
`use_packed_sequences`. On CUDA attention takes `cu_seqlens` and `max_seqlen`, named as in FlashAttention's varlen
functions; on other devices sequences of similar length are padded to a group.

Shapes: T tokens in the row, N sequences in a group, L length of the group's longest sequence.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MAX_PADDING = 0.2  # of a group's longest sequence; 16 tokens are always allowed


@dataclass
class SequenceGroup:
    """Adjacent sequences of similar length."""

    sequences: int
    length: int
    """Length of the longest sequence (L), to which the others are padded."""
    tokens: int
    """Tokens without padding."""
    gather_indices: Tensor | None
    """For each of the N * L padded positions the index of its token; padding repeats a token. None: no padding."""
    token_positions: Tensor | None
    """For each token its padded position, which reverses `gather_indices`; None where nothing is padded."""
    masks: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)
    """Attention masks, made once for all layers."""


class PackedSequences:
    """The sequences of a packed row; made once for each row and used by every layer."""

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        """Compute boundaries and groups.

        Args:
            lengths: number of tokens of each sequence in the order of the row, descending, shape (sequences,).
            device: device of the row.
        """
        self.groups = [_group(part, device) for part in _similar_lengths(lengths)]
        self.group_sizes = [group.tokens for group in self.groups]
        self.max_seqlen = int(lengths[0])
        self.cu_seqlens = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=device)


def _similar_lengths(lengths: np.ndarray) -> list[np.ndarray]:
    """Split descending lengths into groups that need little padding."""
    groups, start = [], 0
    for i in range(1, len(lengths) + 1):
        shortest = lengths[start] - max(16, int(_MAX_PADDING * lengths[start]))
        if i == len(lengths) or lengths[i] < shortest:
            groups.append(lengths[start:i])
            start = i
    return groups


def _group(lengths: np.ndarray, device: torch.device) -> SequenceGroup:
    count, longest, tokens = len(lengths), int(lengths[0]), int(lengths.sum())
    if count * longest == tokens:
        return SequenceGroup(count, longest, tokens, None, None)
    offsets = np.cumsum(lengths) - lengths
    positions = np.minimum(np.arange(longest)[None, :], lengths[:, None] - 1)
    gather_indices = torch.from_numpy((offsets[:, None] + positions).reshape(-1)).to(device)
    is_token = (np.arange(longest)[None, :] < lengths[:, None]).reshape(-1)
    token_positions = torch.from_numpy(np.flatnonzero(is_token)).to(device)
    return SequenceGroup(count, longest, tokens, gather_indices, token_positions)


# A global, neither thread-local nor a context variable: on CUDA the backward pass, which recomputes attention under
# gradient checkpointing, runs in a thread of autograd's.
_current: list[PackedSequences] = []


@contextmanager
def use_packed_sequences(packed_sequences: PackedSequences | None) -> Iterator[None]:
    """Set the boundaries for the forward and backward passes inside the context. None: the row is not packed."""
    if packed_sequences is None:
        yield
        return
    _current.append(packed_sequences)
    try:
        yield
    finally:
        _current.pop()


def current_packed_sequences() -> PackedSequences | None:
    """Return the boundaries that are set; None outside of `use_packed_sequences`."""
    return _current[-1] if _current else None
