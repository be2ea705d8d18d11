"""Bin packing: which sequences share a packed row, so that rows are nearly full and no sequence is split.

Best-fit decreasing by bisection: each sequence, longest first, goes into the row with the least remaining capacity
that holds it. Sequences are shuffled first and packed a window at a time, so that rows are not sorted by length.
"""

from bisect import bisect_left, insort

import numpy as np

# Rows' worth of tokens that are packed together: few enough to keep the shuffle, enough for rows that are 99% full.
_WINDOW_ROWS = 128


def shuffled_rows(lengths: np.ndarray, capacity: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Pack the sequences of one epoch into rows, in an order that depends on seed and epoch alone.

    Args:
        lengths: number of tokens of each sequence, none above `capacity`, shape (sequences,).
        capacity: tokens in a row.
        seed: random seed of the run.
        epoch: number of the epoch, from 0.

    Returns:
        For each row the indices of its sequences.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    window = np.cumsum(lengths[order]) // (_WINDOW_ROWS * capacity)
    cuts = np.flatnonzero(np.diff(window)) + 1
    rows = [row for part in np.split(order, cuts) for row in best_fit_decreasing(lengths, part, capacity)]
    return [rows[i] for i in generator.permutation(len(rows))]


def best_fit_decreasing(lengths: np.ndarray, indices: np.ndarray, capacity: int) -> list[np.ndarray]:
    """Put each sequence, longest first, into the row with the least remaining capacity that holds it.

    Args:
        lengths: number of tokens of every sequence, shape (all sequences,).
        indices: the sequences to pack.
        capacity: tokens in a row.

    Returns:
        For each row the indices of its sequences.
    """
    longest_first = indices[np.argsort(-lengths[indices], kind="stable")]
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (remaining capacity, row), sorted; without full rows
    for index, length in zip(longest_first.tolist(), lengths[longest_first].tolist(), strict=True):
        at = bisect_left(open_rows, (length, -1))
        if at < len(open_rows):
            remaining, row = open_rows.pop(at)
        else:
            remaining, row = capacity, len(rows)
            rows.append([])
        rows[row].append(index)
        if remaining > length:
            insort(open_rows, (remaining - length, row))
    return [np.array(row) for row in rows]
