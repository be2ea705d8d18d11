"""Near-duplicates: candidates by MinHash and locality-sensitive hashing, confirmed by their exact Jaccard similarity.

A row is the set of its word trigrams. Trigrams in more than one row in twenty belong to a template that rows are made
from, and are left out. MinHash (Broder 1997, "On the resemblance and containment of documents") keeps the minimum of
each of several hash functions over a set; rows with equal minima in a whole band of functions are candidates (Indyk and
Motwani 1998). Bands are sized so that a pair at the similarity threshold is missed with a probability of at most 1 %.
This is a few lines of numpy. Libraries were tried: datasketch requires scipy (110 MB), and rensa, which is small, takes
the same hashes and needs twice the time until its values are in numpy again.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loraline.data.similarity.ngrams import Hashes, NGrams, hash_ngrams
from loraline.data.similarity.word_hashes import WordBlock, WordHashes

_NGRAM_WORDS = 3
_HASH_FUNCTIONS = 128
_MISS_PROBABILITY = 0.01
_SEED = 1
_SAMPLED_ROWS = 2000  # about, to find the template
_TEMPLATE_FRACTION, _TEMPLATE_ROWS = 0.05, 10
_COMPARED_OF_BUCKET = 6  # rows of a bucket (equal hashes in a band) that its other rows are compared with
_MAX_COMPARISONS = 30  # of a row; one that finds a near-duplicate counts for ten
_TAG_BITS = np.uint64(11)  # of a 64-bit hash, for the number of a row or pair
_TAGS = 1 << 11

RowNumbers = NDArray[np.int64]


@dataclass(frozen=True)
class NearDuplicatePair:
    """A row that nearly repeats another. Rows are numbered through all sets."""

    row: int
    other: int
    similarity: float


def find_near_duplicates(
    sets: list[WordHashes], similarity: float, folder: Path, advance: Callable[[int], None]
) -> list[NearDuplicatePair]:
    """Find the rows that nearly repeat a row of an earlier set, or a row of their own set that repeats no other.

    A row is in at most one pair as its `row`. Of two near-duplicates in a set this is the one with the higher id, which
    depends on the content of rows and not on their order. Needs about 130 bytes a row on disk and 60 in memory.

    Args:
        sets: words of several sets of rows.
        similarity: Jaccard similarity from which two rows are near-duplicates, above 0.
        folder: for what does not fit in memory.
        advance: called with the number of rows that were hashed since the last call.
    """
    index = _BandIndex(sets, similarity, folder, advance)
    similar = _find_similar(index, sum(map(len, sets)), similarity)
    pairs: dict[int, NearDuplicatePair] = {}
    for place in sorted(similar):  # by set and id
        others = similar[place]
        earlier = [other for other in others if index.set_of(other) < index.set_of(place)]
        if earlier:
            other = max(earlier, key=lambda other: (others[other], -other))
        else:
            other = next((other for other in sorted(others) if other not in pairs), -1)
        if other >= 0:
            pairs[place] = NearDuplicatePair(int(index.order[place]), int(index.order[other]), round(others[other], 3))
    return list(pairs.values())


def _find_similar(index: "_BandIndex", rows: int, similarity: float) -> dict[int, dict[int, float]]:
    """Compare candidate pairs: the similar earlier places of each place, with their similarity."""
    similar: dict[int, dict[int, float]] = {}
    # Comparisons left to a row: with rows of earlier sets, and of its own.
    comparisons = np.full((2, rows), _MAX_COMPARISONS, np.int16)
    compared = np.zeros(0, np.int64)
    for candidates in index.candidates():
        keys = candidates[:, 0] * rows + candidates[:, 1]
        wanted = (comparisons[index.same_set(candidates), candidates[:, 1]] > 0) & ~np.isin(keys, compared)
        pairs, compared = candidates[wanted], np.concatenate([compared, keys[wanted]])
        np.subtract.at(comparisons, (index.same_set(pairs), pairs[:, 1]), 1)
        for chunk in np.array_split(pairs, range(_TAGS, len(pairs), _TAGS)):
            values = index.similarities(chunk)
            near = values >= similarity
            for pair, value in zip(chunk[near], values[near].tolist(), strict=True):
                first, second = pair.tolist()
                if first not in similar.setdefault(second, {}):
                    similar[second][first] = value
                    comparisons[index.same_set(pair[None]), second] -= _MAX_COMPARISONS // 3
    return similar


class _BandIndex:
    """The band hashes of all rows, on disk. A row's place is its rank by set and id."""

    def __init__(self, sets: list[WordHashes], similarity: float, folder: Path, advance: Callable[[int], None]) -> None:
        self._sets = sets
        self._firsts = np.cumsum([0, *map(len, sets)])
        self.order: RowNumbers = np.concatenate(
            [first + np.argsort(words.ranks, kind="stable") for first, words in zip(self._firsts, sets, strict=False)]
        )
        """The number of the row at each place."""
        self._template = _template(sets)
        self._bands, self._width = _banding(similarity)
        total = int(self._firsts[-1])
        self._keys = np.memmap(folder / "bands", np.uint64, "w+", shape=(self._bands, max(1, total)))
        for first, words in zip(self._firsts, sets, strict=False):
            for block in words.blocks():
                at = first + block.first
                self._keys[:, at : at + len(block.lengths)] = self._band_hashes(self._row_ngrams(block))
                advance(len(block.lengths))

    def set_of(self, place: int) -> int:
        """Number of the set of the row at a place."""
        return int(np.searchsorted(self._firsts, place, side="right")) - 1

    def same_set(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """1 for a pair of places in one set, 0 for a pair across sets, (pairs,)."""
        first, second = (np.searchsorted(self._firsts, pairs[:, side], side="right") for side in (0, 1))
        return (first == second).astype(np.int64)

    def _row_ngrams(self, block: WordBlock) -> NGrams:
        """The trigrams of a block's rows without the template; a row that has no others keeps all."""
        ngrams = hash_ngrams(block, _NGRAM_WORDS)
        if not len(self._template):
            return ngrams
        counts = ngrams.counts
        own = ~_among(ngrams.hashes, self._template)
        left = np.add.reduceat(own, ngrams.starts, dtype=np.int64)
        own |= np.repeat(left == 0, counts)
        counts = np.where(left == 0, counts, left)
        return NGrams(ngrams.hashes[own], np.cumsum(counts) - counts)

    def _band_hashes(self, ngrams: NGrams) -> Hashes:
        """A hash of the minima of each band and row, (bands, rows)."""
        draw = random.Random(_SEED)
        low = ngrams.hashes.astype(np.uint32)
        keys = np.zeros((self._bands, len(ngrams.starts)), np.uint64)
        for band in range(self._bands):
            for _ in range(self._width):
                # x -> (x ^ a) * m with m odd permutes 32-bit numbers, and the n-grams' hashes are well mixed already.
                change, multiplier = np.uint32(draw.getrandbits(32)), np.uint32(draw.getrandbits(32) | 1)
                minimum = np.minimum.reduceat((low ^ change) * multiplier, ngrams.starts)
                keys[band] = (keys[band] ^ minimum) * np.uint64(0x9E3779B97F4A7C15)
                keys[band] ^= keys[band] >> np.uint64(29)
        return keys

    def candidates(self) -> Iterator[NDArray[np.int64]]:
        """Yield, band by band, pairs of places (pairs, 2) with equal hashes, the earlier place first.

        Each row is paired with the first few rows of its bucket only, so that the work is linear in the rows.
        """
        for band in range(self._bands):
            keys = self._keys[band][self.order]
            by_key = np.argsort(keys, kind="stable")  # and by place
            keys = keys[by_key]
            begins = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
            begin_of = np.repeat(begins, np.diff(begins, append=len(keys)))
            pairs = []
            for number in range(_COMPARED_OF_BUCKET):
                later = np.flatnonzero(begin_of + number < np.arange(len(keys)))
                pairs.append(np.stack([by_key[begin_of[later] + number], by_key[later]], axis=1))
            yield np.concatenate(pairs)

    def similarities(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Exact Jaccard similarity of pairs of places, (pairs,)."""
        if not len(pairs):
            return np.zeros(0)
        # Each n-gram is tagged with its pair's number, so that one sort finds what all pairs have in common.
        both = np.concatenate([self._tagged_ngrams(pairs[:, 0]), self._tagged_ngrams(pairs[:, 1])])
        both.sort()
        shared = np.bincount(_tags(both[1:][both[1:] == both[:-1]]), minlength=len(pairs))
        similarity: NDArray[np.float64] = shared / (np.bincount(_tags(both), minlength=len(pairs)) - shared)
        return similarity

    def _tagged_ngrams(self, places: RowNumbers) -> Hashes:
        """The n-grams of rows, each once, with the index of the row in `places` as the highest bits."""
        rows = self.order[places]
        which = np.searchsorted(self._firsts, rows, side="right") - 1
        found = []
        for number, words in enumerate(self._sets):
            at = np.flatnonzero(which == number)
            if len(at):
                ngrams = self._row_ngrams(words.select(rows[at] - self._firsts[number]))
                found.append(_tagged(ngrams.hashes, at[ngrams.rows]))
        return np.unique(np.concatenate(found))


def _banding(similarity: float) -> tuple[int, int]:
    """Number of bands and of hash functions a band: the widest bands that miss few enough pairs at this similarity."""
    for width in range(_HASH_FUNCTIONS, 1, -1):
        bands = _HASH_FUNCTIONS // width
        if (1 - similarity**width) ** bands <= _MISS_PROBABILITY:
            return bands, width
    return _HASH_FUNCTIONS, 1


def _template(sets: list[WordHashes]) -> Hashes:
    """Trigrams in more than one row in twenty and more than ten rows, of a sample of rows chosen by their ids."""
    fraction = min(1.0, _SAMPLED_ROWS / max(1, sum(map(len, sets))))
    found, sampled = [], 0
    for words in sets:
        rows = np.flatnonzero(words.ranks <= np.uint64(int(fraction * (2**64 - 1025))))
        for some in np.array_split(rows, range(_TAGS, len(rows), _TAGS)) if len(rows) else ():
            sample = hash_ngrams(words.select(some), _NGRAM_WORDS)
            found.append(np.unique(_tagged(sample.hashes, sample.rows)) << _TAG_BITS)
        sampled += len(rows)
    ngrams, holders = np.unique(np.concatenate(found), return_counts=True)
    template: Hashes = ngrams[holders > max(_TEMPLATE_ROWS, _TEMPLATE_FRACTION * sampled)]
    return template


def _tagged(hashes: Hashes, tags: NDArray[np.int64]) -> Hashes:
    return hashes >> _TAG_BITS | tags.astype(np.uint64) << (np.uint64(64) - _TAG_BITS)


def _tags(tagged: Hashes) -> NDArray[np.int64]:
    return (tagged >> (np.uint64(64) - _TAG_BITS)).astype(np.int64)


def _among(hashes: Hashes, known: Hashes) -> NDArray[np.bool_]:
    """Which hashes are known, apart from their lowest bits."""
    hashes = hashes >> _TAG_BITS << _TAG_BITS
    at = np.searchsorted(known, hashes)
    at[at == len(known)] = 0
    among: NDArray[np.bool_] = known[at] == hashes
    return among
