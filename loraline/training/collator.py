"""From rows to what the model sees: tokens of all documents, which go together, and their tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from loraline.data.chat import encode_rows
from loraline.data.rows import Row
from loraline.training.config import TrainConfig
from loraline.training.packing.attention import Layout
from loraline.training.packing.bin_packing import best_fit_decreasing, shuffled_rows

_ROWS_AT_ONCE = 1000  # tokenized in one call, so that Python lists of tokens stay few


@dataclass(frozen=True)
class Documents:
    """Tokenized rows, behind one another in flat arrays. Only those with something to learn are in it."""

    ids: list[str]
    origins: list[str]
    tokens: np.ndarray
    """Token ids, int32, shape (all tokens,)."""
    loss: np.ndarray
    """Whether a token is to be predicted, bool, shape (all tokens,). Never true for a document's first."""
    lengths: np.ndarray
    """Tokens of each document, int64, shape (documents,)."""
    truncated: int
    """Rows that were cut at the longest length allowed."""
    dropped: int
    """Rows that were left out because none of their tokens carries loss."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each document begins, shape (documents,)."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def labelled(self) -> np.ndarray:
        """Tokens with loss of each document, shape (documents,)."""
        return np.add.reduceat(self.loss, self.starts, dtype=np.int64) if len(self) else np.zeros(0, np.int64)


@dataclass(frozen=True)
class Batch:
    """What one forward pass needs."""

    inputs: dict[str, Any]
    """Arguments of the model: input_ids and position_ids, or attention_mask where rows are padded."""
    positions: Tensor
    """Flat places whose next token carries loss, shape (labelled,)."""
    targets: Tensor
    """Those next tokens, shape (labelled,)."""
    layout: Layout | None
    """Where documents lie in a packed row."""
    tokens: int
    """Tokens without padding."""
    places: int
    """Tokens with padding."""


def encode(tokenizer: PreTrainedTokenizerBase, rows: list[Row], max_length: int) -> Documents:
    """Tokenize rows, cut those that are too long, and leave out those with nothing to learn."""
    ids, origins, tokens, loss, lengths = [], [], [], [], []
    truncated = 0
    for some in _portions(rows, _ROWS_AT_ONCE):
        for row, encoded in zip(some, encode_rows(tokenizer, some), strict=True):
            truncated += len(encoded.token_ids) > max_length
            mask = np.array(encoded.loss_mask[:max_length], dtype=bool)
            mask[:1] = False  # nothing comes before the first token, so nothing predicts it
            if not mask.any():
                continue
            ids.append(row.id)
            origins.append(row.origin)
            tokens.append(np.array(encoded.token_ids[:max_length], dtype=np.int32))
            loss.append(mask)
            lengths.append(len(mask))
    return Documents(
        ids,
        origins,
        np.concatenate(tokens) if tokens else np.zeros(0, np.int32),
        np.concatenate(loss) if loss else np.zeros(0, bool),
        np.array(lengths, dtype=np.int64),
        truncated,
        len(rows) - len(ids),
    )


Step = list[np.ndarray]
"""An optimizer step: for each of its packed rows the numbers of the documents."""


def plan(documents: Documents, config: TrainConfig) -> tuple[list[Step], list[int]]:
    """Lay out all of training before it begins: the steps, and the number of steps done at each epoch's end.

    It depends on the rows' ids and the settings alone, so that a run that is started again goes on where it was.
    """
    steps: list[Step] = []
    ends = []
    for epoch in range(config.epochs):
        rows = shuffled_rows(documents.lengths, config.max_length, config.seed, epoch)
        steps += _portions(rows, config.batch_size * config.gradient_accumulation_steps)
        ends.append(len(steps))
        if config.max_steps and len(steps) >= config.max_steps:
            break
    total = min(len(steps), config.max_steps or len(steps))
    return steps[:total], [*(end for end in ends if end < total), total]


def plan_evaluation(documents: Documents, config: TrainConfig) -> Step:
    """Packed rows with all documents once."""
    return best_fit_decreasing(documents.lengths, np.arange(len(documents)), config.max_length)


def passes(rows: Step, batch_size: int) -> list[np.ndarray]:
    """Forward passes over packed rows: for each the numbers of its documents."""
    return [np.concatenate(some) for some in _portions(rows, batch_size)]


def collate(documents: Documents, chosen: np.ndarray, device: torch.device, packing: bool) -> list[Batch]:
    """Make the tensors of one forward pass: one packed row without padding, or padded batches where
    the model cannot keep packed documents apart."""
    order = chosen[np.argsort(-documents.lengths[chosen], kind="stable")]
    if packing:
        return [_packed(documents, order, device)]
    return [_padded(documents, part, device) for part in _evenly_long(documents.lengths, order)]


def _packed(documents: Documents, order: np.ndarray, device: torch.device) -> Batch:
    lengths = documents.lengths[order]
    within = _counting(lengths)
    flat = np.repeat(documents.starts[order], lengths) + within
    tokens = torch.from_numpy(documents.tokens[flat]).long().to(device)
    targets = torch.from_numpy(np.flatnonzero(documents.loss[flat])).to(device)
    inputs = {"input_ids": tokens[None], "position_ids": torch.from_numpy(within).to(device)[None]}
    return Batch(inputs, targets - 1, tokens[targets], Layout(lengths, device), len(flat), len(flat))


def _padded(documents: Documents, order: np.ndarray, device: torch.device) -> Batch:
    lengths = documents.lengths[order]
    shape = (len(order), int(lengths[0]))
    within = _counting(lengths)
    places = np.repeat(np.arange(len(order)) * shape[1], lengths) + within
    flat = np.repeat(documents.starts[order], lengths) + within
    tokens, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    tokens.flat[places] = documents.tokens[flat]
    mask.flat[places] = 1
    input_ids = torch.from_numpy(tokens).to(device)
    targets = torch.from_numpy(places[documents.loss[flat]]).to(device)
    inputs = {"input_ids": input_ids, "attention_mask": torch.from_numpy(mask).to(device)}
    return Batch(inputs, targets - 1, input_ids.flatten()[targets], None, len(flat), tokens.size)


def _counting(lengths: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... for each length, behind one another."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _evenly_long(lengths: np.ndarray, order: np.ndarray) -> list[np.ndarray]:
    """Cut documents, longest first, into batches that are no more than a quarter padding."""
    parts, start = [], 0
    for i in range(1, len(order) + 1):
        if i == len(order) or lengths[order[i]] < 0.75 * lengths[order[start]]:
            parts.append(order[start:i])
            start = i
    return parts


T = TypeVar("T")


def _portions(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[i : i + size]) for i in range(0, len(items), size)]
