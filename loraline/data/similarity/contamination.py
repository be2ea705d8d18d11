"""Contamination: eval rows that are copied in a train row, word for word or with a few words changed.

8-grams are compared, and a row is contaminated if 70 % of it is found, as for PaLM (Chowdhery et al. 2022, arXiv
2204.02311). Case and punctuation are ignored, and n-grams in more than 10 train rows are boilerplate, which is not
counted at all, as for GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C). GPT-3 used 13-grams for long rows;
8-grams have no more false positives, since one n-gram alone makes no copy, and find twice as many edited copies. Three
differences:

- The fraction is of the words that the found n-grams cover, not of the n-grams (as for Llama 2, Touvron et al. 2023,
  arXiv 2307.09288): changing every twentieth word breaks most n-grams and hides few words.
- All of it must be found in one train row, or rows made from one template would pass for copies of one another.
- The question, the answer, and both together are each compared: a copied question with another answer is a copy, and so
  is a copied answer. A part of fewer than 16 words must be found entirely, because there one word makes another row.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loraline.data.similarity.ngrams import NGrams, hash_ngrams
from loraline.data.similarity.word_hashes import WordBlock, WordHashes

MIN_WORD_OVERLAP = 0.7
"""Fraction of an eval row's words found in one train row from which it is a copy."""
NGRAM_WORDS = 8
EVAL_WORDS_PER_PASS = 1 << 20
"""All train rows are compared once for each block of this many words of eval rows."""
_BOILERPLATE_ROWS = 10  # an n-gram in more train rows is boilerplate
_CANDIDATES = 5  # train rows compared with an eval row: those with most n-grams in common

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Copy:
    """An eval row that is copied in a train row. Rows are numbered as in their files."""

    row: int
    train_row: int
    word_overlap: float
    """Fraction of its words found in the train row: the largest of question, answer and both together."""


def find_copies(
    eval_words: WordHashes, train_words: WordHashes, train_kept: Flags, advance: Callable[[int], None]
) -> list[Copy]:
    """Find the eval rows that are copied in train rows.

    Memory holds about 100 bytes a word of `EVAL_WORDS_PER_PASS`, whatever the number of rows.

    Args:
        eval_words: words of the eval rows.
        train_words: words of the train rows.
        train_kept: the train rows that are not dropped, (rows,).
        advance: called with the number of train rows that were compared since the last call.
    """
    copies = []
    for block in eval_words.blocks(EVAL_WORDS_PER_PASS):
        index = _NGramIndex(hash_ngrams(block, NGRAM_WORDS))
        for train_block in train_words.blocks():
            index.add_train_rows(hash_ngrams(train_block, NGRAM_WORDS), train_block.first, train_kept)
            advance(len(train_block.lengths))
        prompt_lengths = eval_words.prompt_lengths[block.first : block.first + len(block.lengths)]
        copies += _copies(block, prompt_lengths.astype(np.int64), index)
    return copies


class _NGramIndex:
    """The n-grams of some eval rows, and the train rows that contain them."""

    def __init__(self, ngrams: NGrams) -> None:
        self.starts, self.counts = ngrams.starts, ngrams.counts
        self._known, self.numbers = np.unique(ngrams.hashes, return_inverse=True)
        # A table by the lowest bits excludes most n-grams that are not known, much faster than a search.
        self._mask = np.uint64((1 << max(12, (16 * len(self._known)).bit_length())) - 1)
        self._maybe = np.zeros(int(self._mask) + 1, bool)
        self._maybe[self._known & self._mask] = True
        self.train_rows = np.zeros(len(self._known), np.int64)
        """Number of train rows with each n-gram."""
        self._found: list[NDArray[np.int64]] = []

    def add_train_rows(self, ngrams: NGrams, first: int, kept: Flags) -> None:
        """Look up the n-grams of train rows, which are numbered from `first`."""
        at = np.flatnonzero(self._maybe[ngrams.hashes & self._mask])
        numbers = np.searchsorted(self._known, ngrams.hashes[at])
        numbers[numbers == len(self._known)] = 0
        rows = ngrams.rows[at] + first
        same = (self._known[numbers] == ngrams.hashes[at]) & kept[rows]
        pairs = np.unique(np.stack([numbers[same], rows[same]], axis=1), axis=0)
        pairs = pairs[self.train_rows[pairs[:, 0]] <= _BOILERPLATE_ROWS]
        np.add.at(self.train_rows, pairs[:, 0], 1)
        self._found.append(pairs)

    def holders(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Train rows with each n-gram, ordered by n-gram, and the index of each n-gram's first (n-grams + 1,)."""
        pairs = np.concatenate(self._found)
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        return pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(len(self._known) + 1))


def _copies(block: WordBlock, prompt_lengths: NDArray[np.int64], index: _NGramIndex) -> list[Copy]:
    holders, begins = index.holders()
    found = (index.train_rows > 0) & (index.train_rows <= _BOILERPLATE_ROWS)
    any_found = np.add.reduceat(found[index.numbers], index.starts) > 0
    copies = []
    for row in np.flatnonzero(any_found):
        first = index.starts[row]
        numbers = index.numbers[first : first + index.counts[row]]
        counted = ~_covered(np.flatnonzero(index.train_rows[numbers] > _BOILERPLATE_ROWS), len(numbers))
        by_train_row: dict[int, list[int]] = {}
        for place in np.flatnonzero(found[numbers]):
            for train_row in holders[begins[numbers[place]] : begins[numbers[place] + 1]].tolist():
                by_train_row.setdefault(train_row, []).append(int(place))
        most = Counter({train_row: len(places) for train_row, places in by_train_row.items()}).most_common(_CANDIDATES)
        overlaps = {
            train_row: _word_overlap(
                counted, _covered(np.array(by_train_row[train_row]), len(numbers)), prompt_lengths[row]
            )
            for train_row, _ in most
        }
        best = max(overlaps, key=lambda train_row: overlaps[train_row])
        if overlaps[best] >= MIN_WORD_OVERLAP:
            copies.append(Copy(block.first + int(row), best, round(overlaps[best], 3)))
    return copies


def _covered(places: NDArray[np.int64], ngrams: int) -> Flags:
    """Which words of a row are in one of the n-grams that begin at these places, (words,)."""
    edges = np.zeros(ngrams + NGRAM_WORDS, np.int64)
    edges[places] += 1
    edges[places + NGRAM_WORDS] -= 1
    covered: Flags = np.cumsum(edges)[:-1] > 0
    return covered


def _word_overlap(counted: Flags, covered: Flags, prompt_length: int) -> float:
    """The largest fraction of covered words in question, answer and both, of those parts that are long enough."""
    fractions = [0.0]
    for part in (slice(0, prompt_length), slice(prompt_length, None), slice(None)):
        words = int(counted[part].sum())
        fraction = float((counted & covered)[part].sum()) / max(1, words)
        if words >= 2 * NGRAM_WORDS or (words >= NGRAM_WORDS and fraction == 1.0):
            fractions.append(fraction)
    return max(fractions)
