"""The tensors of a forward pass: a packed row without padding, or padded batches."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loraline.training.packing.packed_sequences import PackedSequences
from loraline.training.tokenized_dataset import TokenizedDataset

_MIN_LENGTH = 0.75  # of a padded batch's longest sequence, so that a batch is at most a quarter padding


@dataclass(frozen=True)
class Batch:
    """The input of one forward pass."""

    inputs: dict[str, Any]
    """Arguments of the model: input_ids and position_ids, or input_ids and attention_mask where rows are padded."""
    label_positions: Tensor
    """Flat positions whose next token is a label, shape (labels,)."""
    labels: Tensor
    """Token ids of the labels, shape (labels,)."""
    packed_sequences: PackedSequences | None
    """Boundaries of the sequences in a packed row; None where sequences are padded."""
    padded_tokens: int
    """Number of tokens, padding included."""


def collate(dataset: TokenizedDataset, indices: np.ndarray, device: torch.device, packing: bool) -> list[Batch]:
    """Make the tensors of one micro-batch.

    Args:
        dataset: the tokenized rows.
        indices: the sequences of the micro-batch, shape (sequences,).
        device: device of the tensors.
        packing: whether to concatenate all sequences into one packed row, or to pad them; padded sequences of very
            different length make several batches.
    """
    longest_first = indices[np.argsort(-dataset.lengths[indices], kind="stable")]
    if packing:
        return [_packed_batch(dataset, longest_first, device)]
    return [_padded_batch(dataset, part, device) for part in _similar_lengths(dataset.lengths, longest_first)]


def _packed_batch(dataset: TokenizedDataset, indices: np.ndarray, device: torch.device) -> Batch:
    lengths = dataset.lengths[indices]
    positions = _position_ids(lengths)
    source = np.repeat(dataset.offsets[indices], lengths) + positions
    token_ids = torch.from_numpy(dataset.token_ids[source]).long().to(device)
    at_labels = torch.from_numpy(np.flatnonzero(dataset.loss_mask[source])).to(device)
    inputs = {"input_ids": token_ids[None], "position_ids": torch.from_numpy(positions).to(device)[None]}
    return Batch(inputs, at_labels - 1, token_ids[at_labels], PackedSequences(lengths, device), len(source))


def _padded_batch(dataset: TokenizedDataset, indices: np.ndarray, device: torch.device) -> Batch:
    lengths = dataset.lengths[indices]
    shape = (len(indices), int(lengths[0]))
    positions = _position_ids(lengths)
    source = np.repeat(dataset.offsets[indices], lengths) + positions
    target = np.repeat(np.arange(len(indices)) * shape[1], lengths) + positions
    token_ids, attention_mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    token_ids.flat[target] = dataset.token_ids[source]
    attention_mask.flat[target] = 1
    input_ids = torch.from_numpy(token_ids).to(device)
    at_labels = torch.from_numpy(target[dataset.loss_mask[source]]).to(device)
    inputs = {"input_ids": input_ids, "attention_mask": torch.from_numpy(attention_mask).to(device)}
    return Batch(inputs, at_labels - 1, input_ids.flatten()[at_labels], None, token_ids.size)


def _position_ids(lengths: np.ndarray) -> np.ndarray:
    """Count 0, 1, 2, ... within each of the concatenated sequences, shape (total tokens,)."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _similar_lengths(lengths: np.ndarray, longest_first: np.ndarray) -> list[np.ndarray]:
    """Split sequences, longest first, into groups of similar length."""
    groups, start = [], 0
    for i in range(1, len(longest_first) + 1):
        if i == len(longest_first) or lengths[longest_first[i]] < _MIN_LENGTH * lengths[longest_first[start]]:
            groups.append(longest_first[start:i])
            start = i
    return groups
