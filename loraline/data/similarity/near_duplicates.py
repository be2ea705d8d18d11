"""Rows that nearly repeat one another: found by MinHash, made sure of by their exact Jaccard similarity.

A row is the set of its word triples; what more than one row in twenty holds is the template that rows are made
from, and left out. MinHash (Broder 1997, "On the resemblance and containment of documents") keeps of each set the
least of several hash functions' values; cut into bands, rows that agree in a whole band are candidates (Indyk and
Motwani 1998). Bands are sized so that a pair at the wanted similarity is missed with a probability of 1 % at most.
That is a few lines of numpy. Libraries were tried: datasketch brings scipy with its 110 MB, and rensa, which is small,
takes the same hashes and needs twice the time until its values are in numpy again.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loraline.data.similarity.ngrams import Block, Grams, Hashes, Words, grams

_TRIPLE = 3  # words
_FUNCTIONS = 128
_MISSED = 0.01
_SEED = 1
_SAMPLE = 2000  # rows, about, that tell what is the template
_TEMPLATE_SHARE, _TEMPLATE_ROWS = 0.05, 10
_FIRST_OF_A_RUN = 6  # rows of a band's run that the run's other rows are compared with
_TRIES = 30  # comparisons that a row is given; one that succeeds counts for ten
_TAG_BITS = np.uint64(11)  # taken from a hash of 64 bits for the number of a row or pair
_TAGS = 1 << 11

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """A row that nearly repeats another. Rows are numbered through all sets, one set after the other."""

    row: int
    other: int
    similarity: float


def find_near_duplicates(
    sets: list[Words], similarity: float, folder: Path, advance: Callable[[int], None]
) -> list[Pair]:
    """Find the rows that nearly repeat a row of an earlier set, or a row of their own set that repeats none itself.

    A row is named once. Of two that repeat one another in a set, the one with the higher id is named: that depends on
    what rows hold and not on their order. On disk stand some 130 bytes a row, in memory some 60.

    Args:
        sets: words of some sets of rows.
        similarity: Jaccard similarity from which a row repeats another, above 0.
        folder: where to put what does not fit in memory.
        advance: hears how many rows were gone through.
    """
    index = _BandIndex(sets, similarity, folder, advance)
    similar: dict[int, dict[int, float]] = {}
    tries = np.full((2, sum(map(len, sets))), _TRIES, np.int16)  # left to a row, in earlier sets and in its own
    compared = np.zeros(0, np.int64)
    for candidates in index.candidates():
        names = candidates[:, 0] * tries.shape[1] + candidates[:, 1]
        wanted = (tries[index.same_set(candidates), candidates[:, 1]] > 0) & ~np.isin(names, compared)
        pairs, compared = candidates[wanted], np.concatenate([compared, names[wanted]])
        np.subtract.at(tries, (index.same_set(pairs), pairs[:, 1]), 1)
        for chunk in np.array_split(pairs, range(_TAGS, len(pairs), _TAGS)):
            values = index.similarities(chunk)
            near = values >= similarity
            for pair, value in zip(chunk[near], values[near].tolist(), strict=True):
                first, second = pair.tolist()
                if first not in similar.setdefault(second, {}):
                    similar[second][first] = value
                    tries[index.same_set(pair[None]), second] -= _TRIES // 3
    repeats: dict[int, Pair] = {}
    for place in sorted(similar):  # places count in the order in which rows are kept
        others = similar[place]
        before = [other for other in others if index.set_of(other) < index.set_of(place)]
        if before:
            other = max(before, key=lambda other: (others[other], -other))
        else:
            other = next((other for other in sorted(others) if other not in repeats), -1)
        if other >= 0:
            repeats[place] = Pair(int(index.order[place]), int(index.order[other]), round(others[other], 3))
    return list(repeats.values())


class _BandIndex:
    """The bands of all rows, on disk. Rows are named by their place: by set, and in a set by id."""

    def __init__(self, sets: list[Words], similarity: float, folder: Path, advance: Callable[[int], None]) -> None:
        self._sets = sets
        self._firsts = np.cumsum([0, *map(len, sets)])
        self.order: Rows = np.concatenate(
            [first + np.argsort(words.ranks, kind="stable") for first, words in zip(self._firsts, sets, strict=False)]
        )
        """The row at each place."""
        self._template = _template(sets)
        self._bands, self._width = _banding(similarity)
        total = int(self._firsts[-1])
        self._keys = np.memmap(folder / "bands", np.uint64, "w+", shape=(self._bands, max(1, total)))
        for first, words in zip(self._firsts, sets, strict=False):
            for block in words.blocks():
                at = first + block.first
                self._keys[:, at : at + len(block.lengths)] = self._keys_of(self._triples(block))
                advance(len(block.lengths))

    def set_of(self, place: int) -> int:
        """Number of the set that the row at a place belongs to."""
        return int(np.searchsorted(self._firsts, place, side="right")) - 1

    def same_set(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """1 for a pair of places in one set, 0 for one across sets, (pairs,)."""
        first, second = (np.searchsorted(self._firsts, pairs[:, side], side="right") for side in (0, 1))
        return (first == second).astype(np.int64)

    def _triples(self, block: Block) -> Grams:
        """Triples of a block's rows without the template; a row that is nothing else keeps all of its own."""
        triples = grams(block, _TRIPLE)
        if not len(self._template):
            return triples
        counts = triples.counts
        own = ~_among(triples.hashes, self._template)
        left = np.add.reduceat(own, triples.starts, dtype=np.int64)
        own |= np.repeat(left == 0, counts)
        counts = np.where(left == 0, counts, left)
        return Grams(triples.hashes[own], np.cumsum(counts) - counts)

    def _keys_of(self, triples: Grams) -> Hashes:
        """A hash for each band and row, (bands, rows)."""
        draw = random.Random(_SEED)
        low = triples.hashes.astype(np.uint32)
        keys = np.zeros((self._bands, len(triples.starts)), np.uint64)
        for band in range(self._bands):
            for _ in range(self._width):
                # x -> (x ^ a) * m with m odd permutes 32-bit numbers, and the triples' hashes are well mixed already.
                change, multiplier = np.uint32(draw.getrandbits(32)), np.uint32(draw.getrandbits(32) | 1)
                least = np.minimum.reduceat((low ^ change) * multiplier, triples.starts)
                keys[band] = (keys[band] ^ least) * np.uint64(0x9E3779B97F4A7C15)
                keys[band] ^= keys[band] >> np.uint64(29)
        return keys

    def candidates(self) -> Iterator[NDArray[np.int64]]:
        """Band by band, pairs of places (pairs, 2) that agree in it, the earlier place first.

        Each row is paired with the first few of those that it agrees with, so that the work grows with the rows.
        """
        for band in range(self._bands):
            keys = self._keys[band][self.order]
            by_key = np.argsort(keys, kind="stable")  # and by place
            keys = keys[by_key]
            begins = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
            begin_of = np.repeat(begins, np.diff(begins, append=len(keys)))
            pairs = []
            for number in range(_FIRST_OF_A_RUN):
                later = np.flatnonzero(begin_of + number < np.arange(len(keys)))
                pairs.append(np.stack([by_key[begin_of[later] + number], by_key[later]], axis=1))
            yield np.concatenate(pairs)

    def similarities(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Exact Jaccard similarity of pairs of places, (pairs,)."""
        if not len(pairs):
            return np.zeros(0)
        # Each triple is given its pair's number, so that one sort finds what all pairs have in common.
        both = np.concatenate([self._tagged_triples(pairs[:, 0]), self._tagged_triples(pairs[:, 1])])
        both.sort()
        shared = np.bincount(_tags(both[1:][both[1:] == both[:-1]]), minlength=len(pairs))
        similarity: NDArray[np.float64] = shared / (np.bincount(_tags(both), minlength=len(pairs)) - shared)
        return similarity

    def _tagged_triples(self, places: Rows) -> Hashes:
        """The triples of rows, each once, with the number of the row among those asked for as its highest bits."""
        rows = self.order[places]
        which = np.searchsorted(self._firsts, rows, side="right") - 1
        found = []
        for number, words in enumerate(self._sets):
            at = np.flatnonzero(which == number)
            if len(at):
                triples = self._triples(words.of(rows[at] - self._firsts[number]))
                found.append(_tagged(triples.hashes, at[triples.rows]))
        return np.unique(np.concatenate(found))


def _banding(similarity: float) -> tuple[int, int]:
    """Bands and values a band: as wide as is possible without missing too many pairs of that similarity."""
    for width in range(_FUNCTIONS, 1, -1):
        bands = _FUNCTIONS // width
        if (1 - similarity**width) ** bands <= _MISSED:
            return bands, width
    return _FUNCTIONS, 1


def _template(sets: list[Words]) -> Hashes:
    """Triples that more than one row in twenty holds, and more than ten rows; told from rows chosen by their ids."""
    share = min(1.0, _SAMPLE / max(1, sum(map(len, sets))))
    found, sampled = [], 0
    for words in sets:
        rows = np.flatnonzero(words.ranks <= np.uint64(int(share * (2**64 - 1025))))
        for some in np.array_split(rows, range(_TAGS, len(rows), _TAGS)) if len(rows) else ():
            held = grams(words.of(some), _TRIPLE)
            found.append(np.unique(_tagged(held.hashes, held.rows)) << _TAG_BITS)
        sampled += len(rows)
    triples, holders = np.unique(np.concatenate(found), return_counts=True)
    template: Hashes = triples[holders > max(_TEMPLATE_ROWS, _TEMPLATE_SHARE * sampled)]
    return template


def _tagged(hashes: Hashes, tags: NDArray[np.int64]) -> Hashes:
    return hashes >> _TAG_BITS | tags.astype(np.uint64) << (np.uint64(64) - _TAG_BITS)


def _tags(tagged: Hashes) -> NDArray[np.int64]:
    return (tagged >> (np.uint64(64) - _TAG_BITS)).astype(np.int64)


def _among(hashes: Hashes, known: Hashes) -> NDArray[np.bool_]:
    """Which hashes are known, their lowest bits aside."""
    hashes = hashes >> _TAG_BITS << _TAG_BITS
    at = np.searchsorted(known, hashes)
    at[at == len(known)] = 0
    among: NDArray[np.bool_] = known[at] == hashes
    return among
