"""Packing: which documents share a row, so that rows are nearly full and none is cut.

Best-fit decreasing by bisection: each document, longest first, goes where the least room is left that holds it.
Documents are shuffled first and packed a window at a time, so that rows are not sorted by length.
"""

from bisect import bisect_left, insort

import numpy as np

# Rows' worth of tokens that are packed together: few enough to keep the shuffle, enough for rows 99% full.
_WINDOW_ROWS = 128


def shuffled_rows(lengths: np.ndarray, capacity: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Pack the documents of one epoch into rows, in an order that depends on seed and epoch alone.

    Args:
        lengths: tokens of each document, none above `capacity`, shape (documents,).
        capacity: tokens in a row.

    Returns:
        For each row the numbers of its documents.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    window = np.cumsum(lengths[order]) // (_WINDOW_ROWS * capacity)
    cuts = np.flatnonzero(np.diff(window)) + 1
    rows = [row for part in np.split(order, cuts) for row in best_fit_decreasing(lengths, part, capacity)]
    return [rows[i] for i in generator.permutation(len(rows))]


def best_fit_decreasing(lengths: np.ndarray, documents: np.ndarray, capacity: int) -> list[np.ndarray]:
    """Put each of `documents`, longest first, into the row with the least room that holds it.

    Args:
        lengths: tokens of every document, shape (all documents,).
        documents: numbers of the documents to pack.
        capacity: tokens in a row.
    """
    longest_first = documents[np.argsort(-lengths[documents], kind="stable")]
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted; full rows are not in it
    for document, length in zip(longest_first.tolist(), lengths[longest_first].tolist(), strict=True):
        at = bisect_left(room, (length, -1))
        if at < len(room):
            left, row = room.pop(at)
        else:
            left, row = capacity, len(rows)
            rows.append([])
        rows[row].append(document)
        if left > length:
            insort(room, (left - length, row))
    return [np.array(row) for row in rows]
