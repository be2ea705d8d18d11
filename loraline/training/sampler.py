"""Which sequences train together: packed rows, the micro-batches of a forward pass, and optimizer steps."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from loraline.training.config import TrainConfig
from loraline.training.packing.bin_packing import best_fit_decreasing, shuffled_rows
from loraline.training.tokenized_dataset import TokenizedDataset

PackedRows = list[np.ndarray]
"""Packed rows, such as those of an optimizer step: for each row the indices of its sequences."""

T = TypeVar("T")


def plan_steps(dataset: TokenizedDataset, config: TrainConfig) -> tuple[list[PackedRows], list[int]]:
    """Plan all optimizer steps before training begins.

    The plan depends on the content of the rows and the settings alone, so that a run that is started again can resume.

    Returns:
        The packed rows of each optimizer step, and for each epoch the number of steps done at its end.
    """
    steps: list[PackedRows] = []
    epoch_ends = []
    for epoch in range(config.epochs):
        rows = shuffled_rows(dataset.lengths, config.max_length, config.seed, epoch)
        steps += _chunks(rows, config.batch_size * config.gradient_accumulation_steps)
        epoch_ends.append(len(steps))
        if config.max_steps and len(steps) >= config.max_steps:
            break
    total = min(len(steps), config.max_steps or len(steps))
    return steps[:total], [*(end for end in epoch_ends if end < total), total]


def pack_in_order(dataset: TokenizedDataset, config: TrainConfig) -> PackedRows:
    """Pack every sequence once, without shuffling, for an evaluation."""
    return best_fit_decreasing(dataset.lengths, np.arange(len(dataset)), config.max_length)


def micro_batches(rows: PackedRows, batch_size: int) -> list[np.ndarray]:
    """Split packed rows into micro-batches, one for each forward pass: the indices of their sequences."""
    return [np.concatenate(chunk) for chunk in _chunks(rows, batch_size)]


def _chunks(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[i : i + size]) for i in range(0, len(items), size)]
