"""Rows to evaluate on that are copied in a row to train on, word for word or with a few words changed.

Runs of eight words are compared, and a row is a copy if 70 % of it is found, as for PaLM (Chowdhery et al. 2022, arXiv
2204.02311). Case and punctuation do not count, and runs that stand in more than 10 rows to train on are boilerplate,
which counts neither way, as for GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C). GPT-3 compared 13 words where
rows are long; eight find no more honest rows, since it takes more than one run to make a copy, and twice as many
edited copies. Three things are stricter or looser than there:

- The share is of the words that found runs cover, not of the runs (as for Llama 2, Touvron et al. 2023, arXiv
  2307.09288): changing every twentieth word breaks most runs and hides few words.
- All has to be found in one row to train on, or rows made from one template would pass for copies of one another.
- The question, the answer and the two together are looked at each: a copied question with another answer is a copy,
  and so is a copied answer. What has fewer than 16 words has to be found whole, because there a word makes another row.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loraline.data.similarity.ngrams import Block, Grams, Words, grams

SHARE = 0.7
"""Share of words, found in one row to train on, from which a row to evaluate on is a copy."""
RUN = 8
"""Words of a run."""
_BOILERPLATE = 10  # rows to train on
EVAL_BLOCK = 1 << 20  # words; all rows to train on are gone through once for each block
_CANDIDATES = 5  # rows to train on that are looked at for a row to evaluate on: those with most runs in common

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Copy:
    """A row to evaluate on that a row to train on repeats. Rows are numbered as they lie in their files."""

    row: int
    train_row: int
    overlap: float
    """Share of words in common, of the question, the answer or both, whichever is the largest."""


def find_copies(held_out: Words, train: Words, train_kept: Flags, advance: Callable[[int], None]) -> list[Copy]:
    """Find the rows to evaluate on that are copied in rows to train on.

    Memory holds about 100 bytes a word of `EVAL_BLOCK`, whatever the number of rows.

    Args:
        held_out: words of the rows to evaluate on.
        train: words of the rows to train on.
        train_kept: which of them are trained on, (rows,).
        advance: hears how many rows to train on were gone through.
    """
    copies = []
    for block in held_out.blocks(EVAL_BLOCK):
        index = _RunIndex(grams(block, RUN))
        for train_block in train.blocks():
            index.look_up(grams(train_block, RUN), train_block.first, train_kept)
            advance(len(train_block.lengths))
        splits = held_out.splits[block.first : block.first + len(block.lengths)]
        copies += _copies(block, splits.astype(np.int64), index)
    return copies


class _RunIndex:
    """The runs of some rows to evaluate on, and which rows to train on hold them."""

    def __init__(self, runs: Grams) -> None:
        self.starts, self.counts = runs.starts, runs.counts
        self._known, self.numbers = np.unique(runs.hashes, return_inverse=True)
        # A table by the lowest bits tells most runs that are not known, at a fraction of a search's price.
        self._mask = np.uint64((1 << max(12, (16 * len(self._known)).bit_length())) - 1)
        self._maybe = np.zeros(int(self._mask) + 1, bool)
        self._maybe[self._known & self._mask] = True
        self.train_rows = np.zeros(len(self._known), np.int64)
        """How many rows to train on hold each run."""
        self._found: list[NDArray[np.int64]] = []

    def look_up(self, runs: Grams, first: int, kept: Flags) -> None:
        """Take in rows to train on, from number `first` on."""
        at = np.flatnonzero(self._maybe[runs.hashes & self._mask])
        numbers = np.searchsorted(self._known, runs.hashes[at])
        numbers[numbers == len(self._known)] = 0
        rows = runs.rows[at] + first
        same = (self._known[numbers] == runs.hashes[at]) & kept[rows]
        pairs = np.unique(np.stack([numbers[same], rows[same]], axis=1), axis=0)
        pairs = pairs[self.train_rows[pairs[:, 0]] <= _BOILERPLATE]
        np.add.at(self.train_rows, pairs[:, 0], 1)
        self._found.append(pairs)

    def holders(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows to train on that hold each run, one run after the other, and where each run's begin (runs + 1,)."""
        pairs = np.concatenate(self._found)
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        return pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(len(self._known) + 1))


def _copies(block: Block, splits: NDArray[np.int64], index: _RunIndex) -> list[Copy]:
    holders, begins = index.holders()
    found = (index.train_rows > 0) & (index.train_rows <= _BOILERPLATE)
    any_found = np.add.reduceat(found[index.numbers], index.starts) > 0
    copies = []
    for row in np.flatnonzero(any_found):
        first = index.starts[row]
        numbers = index.numbers[first : first + index.counts[row]]
        counted = ~_covered(np.flatnonzero(index.train_rows[numbers] > _BOILERPLATE), len(numbers))
        by_train_row: dict[int, list[int]] = {}
        for place in np.flatnonzero(found[numbers]):
            for train_row in holders[begins[numbers[place]] : begins[numbers[place] + 1]].tolist():
                by_train_row.setdefault(train_row, []).append(int(place))
        most = Counter({train_row: len(places) for train_row, places in by_train_row.items()}).most_common(_CANDIDATES)
        overlaps = {
            train_row: _overlap(counted, _covered(np.array(by_train_row[train_row]), len(numbers)), splits[row])
            for train_row, _ in most
        }
        best = max(overlaps, key=lambda train_row: overlaps[train_row])
        if overlaps[best] >= SHARE:
            copies.append(Copy(block.first + int(row), best, round(overlaps[best], 3)))
    return copies


def _covered(places: NDArray[np.int64], runs: int) -> Flags:
    """Which words of a row lie in one of the runs that begin at these places, (words,)."""
    edges = np.zeros(runs + RUN, np.int64)
    edges[places] += 1
    edges[places + RUN] -= 1
    covered: Flags = np.cumsum(edges)[:-1] > 0
    return covered


def _overlap(counted: Flags, covered: Flags, split: int) -> float:
    """The largest share of covered words in question, answer and both, of those parts that are long enough."""
    shares = [0.0]
    for part in (slice(0, split), slice(split, None), slice(None)):
        words = int(counted[part].sum())
        share = float((counted & covered)[part].sum()) / max(1, words)
        if words >= 2 * RUN or (words >= RUN and share == 1.0):
            shares.append(share)
    return max(shares)
