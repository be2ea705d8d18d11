"""What the rows to train on look like in a few kilobytes, for `similarity.drift` to compare with another run's.

Words are counted by a hash and lengths in words, so that profiles compare whatever the tokenizer.
"""

import numpy as np
from numpy.typing import NDArray

from loraline.data.similarity.ngrams import Words

_WORD_BINS = 512
_LENGTH_BINS = 64
_BINS_PER_DOUBLING = 4
_SPREAD = np.uint64(0x9E3779B1)

Profile = dict[str, int | list[int]]


def profile_of(words: Words, kept: NDArray[np.bool_]) -> Profile:
    """Count the words and lengths of the rows that are kept, (rows,)."""
    counts = {f"{part}_words": np.zeros(_WORD_BINS, np.int64) for part in ("prompt", "completion")}
    for block in words.blocks():
        rows = slice(block.first, block.first + len(block.lengths))
        splits = words.splits[rows].astype(np.int64)
        place = np.arange(len(block.words)) - np.repeat(np.cumsum(block.lengths) - block.lengths, block.lengths)
        asks = place < np.repeat(splits, block.lengths)
        bins = (block.words * _SPREAD >> np.uint64(8)) % np.uint64(_WORD_BINS)
        wanted = np.repeat(kept[rows], block.lengths)
        for name, part in (("prompt", asks), ("completion", ~asks)):
            counts[f"{name}_words"] += np.bincount(bins[part & wanted].astype(np.int64), minlength=_WORD_BINS)
    asked = words.splits[kept].astype(np.int64)
    counts |= {
        "prompt_lengths": _by_length(asked),
        "completion_lengths": _by_length(words.lengths[kept].astype(np.int64) - asked),
    }
    return {"rows": int(kept.sum()), **{name: histogram.tolist() for name, histogram in counts.items()}}


def _by_length(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows per bin; bins grow with the length, four for each doubling."""
    bins = (_BINS_PER_DOUBLING * np.log2(1 + lengths)).astype(np.int64)
    return np.bincount(np.minimum(bins, _LENGTH_BINS - 1), minlength=_LENGTH_BINS)
