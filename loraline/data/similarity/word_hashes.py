"""The words of rows as 32-bit hashes on disk, for comparing rows with one another.

A word is a run of letters and digits in lower case, or one character of a script without spaces between words.
Punctuation is ignored, and so are system messages and tools, which many rows share word for word.
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

from loraline.data.messages import SYSTEM_ROLES, last_answer, message_text
from loraline.data.rows import Row

WORDS_PER_BLOCK = 1 << 18
"""Words that are processed together, few enough for the processor's cache."""

# Thai, Lao, Burmese, Khmer, kana and Chinese characters.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
# Translation of ASCII text: lower case, and a space for everything else than letters and digits.
_ASCII_TABLE = bytes(ord(chr(code).lower()) if chr(code).isalnum() and code < 128 else ord(" ") for code in range(256))
_CACHED_WORDS, _MAX_CACHED_LENGTH = 1 << 16, 32
_BUFFERED_WORDS = 1 << 18


def split_words(text: str) -> list[bytes]:
    """Split a text into words, in UTF-8."""
    if text.isascii():  # four times as fast as the regular expression
        return text.encode().translate(_ASCII_TABLE).split()
    return [word.encode() for word in _WORD.findall(text.lower().replace("_", " "))]


class _HashCache(dict[bytes, int]):
    """CRC-32 of words, with a cache."""

    def __missing__(self, word: bytes) -> int:
        value = crc32(word)
        if len(word) <= _MAX_CACHED_LENGTH:
            if len(self) >= _CACHED_WORDS:
                self.clear()
            self[word] = value
        return value


class WordHashWriter:
    """Writes the word hashes of rows, in order: 4 bytes a word on disk, 16 bytes a row in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._hashes = _HashCache()
        self._pending = array("I")
        self._lengths, self._prompt_lengths, self._ranks = array("I"), array("I"), array("Q")

    def add(self, row: Row) -> None:
        """Write a row's words."""
        prompt, answer = prompt_and_answer(row)
        prompt_words = split_words(prompt)
        # A row without words is one word, its whole text, so that it is similar to no other row.
        words = [*prompt_words, *split_words(answer)] or [f"{prompt}\n{answer}".encode()]
        self._pending.extend(map(self._hashes.__getitem__, words))
        self._lengths.append(len(words))
        self._prompt_lengths.append(len(prompt_words))
        self._ranks.append(row.id_hash)
        if len(self._pending) >= _BUFFERED_WORDS:
            self._flush()

    def _flush(self) -> None:
        self._pending.tofile(self._file)
        self._pending = array("I")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._file.close()

    def words(self) -> "WordHashes":
        """The words that were written. The writer must be closed."""
        numbers = (self._lengths, self._prompt_lengths, self._ranks)
        return WordHashes(self._path, *(np.frombuffer(one.tobytes(), one.typecode) for one in numbers))


def prompt_and_answer(row: Row) -> tuple[str, str]:
    """All turns before the last answer but system messages, and that answer; of a plain text "" and the text."""
    if row.messages is None:
        return "", row.text or ""
    last = last_answer(row.messages)
    last = len(row.messages) - 1 if last is None else last
    prompt = "\n".join(message_text(turn) for turn in row.messages[:last] if turn["role"] not in SYSTEM_ROLES)
    return prompt, message_text(row.messages[last])


@dataclass(frozen=True)
class WordBlock:
    """The words of some rows, one after the other."""

    first: int
    """Number of the first row in its file."""
    words: NDArray[np.uint32]
    lengths: NDArray[np.int64]
    """Words per row."""


class WordHashes:
    """The word hashes of a file of rows.

    lengths: words per row, (rows,).
    prompt_lengths: how many of them are the prompt's, (rows,).
    ranks: the first 64 bits of each row's id, (rows,): an order that depends on content alone.
    """

    def __init__(
        self, path: Path, lengths: NDArray[np.uint32], prompt_lengths: NDArray[np.uint32], ranks: NDArray[np.uint64]
    ) -> None:
        self._path = path
        self.lengths, self.prompt_lengths, self.ranks = lengths, prompt_lengths, ranks

    def __len__(self) -> int:
        return len(self.lengths)

    def blocks(self, size: int = WORDS_PER_BLOCK) -> Iterator[WordBlock]:
        """Yield all rows in blocks of at most `size` words and rows; a longer row is a block of its own."""
        first = 0
        with self._path.open("rb") as file:
            while first < len(self):
                ends = np.cumsum(self.lengths[first : first + size], dtype=np.int64)
                rows = max(1, int(np.searchsorted(ends, size, side="right")))
                words = np.fromfile(file, np.uint32, int(ends[rows - 1]))
                yield WordBlock(first, words, self.lengths[first : first + rows].astype(np.int64))
                first += rows

    def select(self, rows: NDArray[np.int64]) -> WordBlock:
        """The words of the rows with these numbers, in this order."""
        ends = np.cumsum(self.lengths, dtype=np.int64)
        stored: NDArray[np.uint32] = (
            np.memmap(self._path, np.uint32, "r") if len(ends) and ends[-1] else np.empty(0, np.uint32)
        )
        parts = [stored[ends[row] - self.lengths[row] : ends[row]] for row in rows]
        return WordBlock(0, np.concatenate(parts), self.lengths[rows].astype(np.int64))
