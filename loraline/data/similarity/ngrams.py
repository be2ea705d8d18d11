"""Hashes of the n-grams of words of rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loraline.data.similarity.word_hashes import WordBlock

Hashes = NDArray[np.uint64]
_MULTIPLIER, _MIXER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class NGrams:
    """Hashes of the n-grams of rows, row by row. A row of fewer than n words has one n-gram, the whole row."""

    hashes: Hashes
    """(n-grams,)"""
    starts: NDArray[np.int64]
    """Index of each row's first n-gram, (rows,)."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """N-grams per row, (rows,)."""
        return np.diff(self.starts, append=len(self.hashes))

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row of each n-gram, counted from the first row of the block, (n-grams,)."""
        return np.repeat(np.arange(len(self.starts)), self.counts)


def hash_ngrams(block: WordBlock, n: int) -> NGrams:
    """Hash all n-grams of the rows of a block: a Rabin-Karp polynomial over the words, then mixed."""
    words, lengths = _padded(block, n)
    total = len(words) - n + 1
    hashes = np.zeros(max(total, 0), np.uint64)
    for offset in range(n):
        hashes *= _MULTIPLIER
        hashes += words[offset : offset + total]
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIXER
    hashes ^= hashes >> np.uint64(32)
    ends = np.cumsum(lengths)
    inside = np.ones(len(words), bool)
    for distance in range(1, n):  # no n-gram begins at the last n - 1 words of a row
        inside[ends - distance] = False
    counts = lengths - n + 1
    return NGrams(hashes[inside[:total]], np.cumsum(counts) - counts)


def _padded(block: WordBlock, n: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """A block's words and lengths, rows of fewer than n words padded with zeros."""
    if not len(block.lengths) or block.lengths.min() >= n:
        return block.words, block.lengths
    lengths = np.maximum(block.lengths, n)
    shift = (np.cumsum(lengths) - lengths) - (np.cumsum(block.lengths) - block.lengths)
    words = np.zeros(int(lengths.sum()), np.uint32)
    words[np.arange(len(block.words)) + np.repeat(shift, block.lengths)] = block.words
    return words, lengths
