"""The words of rows, hashed and kept on disk: all that it takes to compare rows with one another.

A word is a run of letters and digits without case, or one character of a script that puts no spaces between
words. Punctuation counts for nothing. System messages do not count either: many rows share them word for word.
"""

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from loraline.data.rows import Row

Hashes = NDArray[np.uint64]
BLOCK = 1 << 18
"""Words that are looked at together: few enough for a processor's cache."""

# Thai, Lao, Burmese, Khmer, kana and Chinese characters.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
# What each ASCII character becomes: a small letter, a digit, or a space between words.
_ASCII = bytes(ord(chr(code).lower()) if chr(code).isalnum() and code < 128 else ord(" ") for code in range(256))
_KNOWN_WORDS, _LONGEST_KNOWN = 1 << 16, 32
_BUFFER = 1 << 18  # words held before they are written
_MULTIPLIER, _SPREAD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


def words_of(text: str) -> list[bytes]:
    """The words of a text, in order, in UTF-8."""
    if text.isascii():  # without a regular expression, in a quarter of the time
        return text.encode().translate(_ASCII).split()
    return [word.encode() for word in _WORD.findall(text.lower().replace("_", " "))]


class _WordHashes(dict[bytes, int]):
    """CRC-32 of words; the latest are remembered, because most words come again."""

    def __missing__(self, word: bytes) -> int:
        found = crc32(word)
        if len(word) <= _LONGEST_KNOWN:
            if len(self) >= _KNOWN_WORDS:
                self.clear()
            self[word] = found
        return found


class WordWriter:
    """Takes down the words of one set of rows, in the order in which the rows are written.

    Memory holds 16 bytes a row; the words lie on disk, 4 bytes each.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._hashes = _WordHashes()
        self._waiting = array("I")
        self._lengths, self._splits, self._ranks = array("I"), array("I"), array("Q")

    def add(self, row: Row) -> None:
        """Take down a row's words."""
        asked, said = parts_of(row)
        before = words_of(asked)
        # A row of punctuation alone is one word, so that it is like no other.
        words = [*before, *words_of(said)] or [f"{asked}\n{said}".encode()]
        self._waiting.extend(map(self._hashes.__getitem__, words))
        self._lengths.append(len(words))
        self._splits.append(len(before))
        self._ranks.append(int(row.id[:16], 16))
        if len(self._waiting) >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        self._waiting.tofile(self._file)
        self._waiting = array("I")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._file.close()

    def words(self) -> "Words":
        """What was taken down. The writer must be closed."""
        numbers = (self._lengths, self._splits, self._ranks)
        return Words(self._path, *(np.frombuffer(one.tobytes(), one.typecode) for one in numbers))


def parts_of(row: Row) -> tuple[str, str]:
    """What a row asks, system messages aside, and the last thing it answers; a plain text asks nothing."""
    if row.messages is None:
        return "", row.text or ""
    asked = "\n".join(turn["content"] for turn in row.messages[:-1] if turn["role"] != "system")
    return asked, row.messages[-1]["content"]


@dataclass(frozen=True)
class Block:
    """Some rows next to one another."""

    first: int
    """Number of the first row, in its file."""
    words: NDArray[np.uint32]
    lengths: NDArray[np.int64]
    """Words per row."""


class Words:
    """The words of a set of rows.

    lengths: words per row, (rows,).
    splits: of them, how many ask rather than answer.
    ranks: 64 bits of each row's id, an order that depends on content alone.
    """

    def __init__(
        self, path: Path, lengths: NDArray[np.uint32], splits: NDArray[np.uint32], ranks: NDArray[np.uint64]
    ) -> None:
        self._path = path
        self.lengths, self.splits, self.ranks = lengths, splits, ranks

    def __len__(self) -> int:
        return len(self.lengths)

    def blocks(self, size: int = BLOCK) -> Iterator[Block]:
        """All rows, in blocks of at most `size` words or rows; a longer row is a block of its own."""
        first = 0
        with self._path.open("rb") as file:
            while first < len(self):
                ends = np.cumsum(self.lengths[first : first + size], dtype=np.int64)
                rows = max(1, int(np.searchsorted(ends, size, side="right")))
                words = np.fromfile(file, np.uint32, int(ends[rows - 1]))
                yield Block(first, words, self.lengths[first : first + rows].astype(np.int64))
                first += rows

    def of(self, rows: NDArray[np.int64]) -> Block:
        """Some rows, in the order asked for, with no row before or after them."""
        ends = np.cumsum(self.lengths, dtype=np.int64)
        stored: NDArray[np.uint32] = (
            np.memmap(self._path, np.uint32, "r") if len(ends) and ends[-1] else np.empty(0, np.uint32)
        )
        parts = [stored[ends[row] - self.lengths[row] : ends[row]] for row in rows]
        return Block(0, np.concatenate(parts), self.lengths[rows].astype(np.int64))


@dataclass(frozen=True)
class Grams:
    """Hashes of runs of n words, row by row; no run crosses from one row into the next.

    A row of fewer than n words has one run, which is the whole row.
    """

    hashes: Hashes
    """(runs,)"""
    starts: NDArray[np.int64]
    """Where each row's runs begin, (rows,)."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """Runs per row, (rows,)."""
        return np.diff(self.starts, append=len(self.hashes))

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row of each run, counted from the block's first, (runs,)."""
        return np.repeat(np.arange(len(self.starts)), self.counts)


def grams(block: Block, n: int) -> Grams:
    """Hash all runs of n words of a block's rows (a polynomial over the words, as Rabin and Karp's)."""
    words, lengths = _padded(block, n)
    total = len(words) - n + 1
    hashes = np.zeros(max(total, 0), np.uint64)
    for place in range(n):
        hashes *= _MULTIPLIER
        hashes += words[place : place + total]
    hashes ^= hashes >> np.uint64(32)
    hashes *= _SPREAD
    hashes ^= hashes >> np.uint64(32)
    ends = np.cumsum(lengths)
    inside = np.ones(len(words), bool)
    for back in range(1, n):  # no run begins on a row's last n - 1 words
        inside[ends - back] = False
    counts = lengths - n + 1
    return Grams(hashes[inside[:total]], np.cumsum(counts) - counts)


def _padded(block: Block, n: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """A block's words and lengths, with zeros behind the words of rows that have fewer than n."""
    if not len(block.lengths) or block.lengths.min() >= n:
        return block.words, block.lengths
    lengths = np.maximum(block.lengths, n)
    moved = (np.cumsum(lengths) - lengths) - (np.cumsum(block.lengths) - block.lengths)
    words = np.zeros(int(lengths.sum()), np.uint32)
    words[np.arange(len(block.words)) + np.repeat(moved, block.lengths)] = block.words
    return words, lengths
