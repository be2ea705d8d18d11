"""Rows as people might write them, for tests that compare rows: each of words of its own, from a fixed seed."""

import random
from pathlib import Path

from loraline.data.rows import Row
from loraline.data.similarity.word_hashes import WordHashes, WordHashWriter

_SYLLABLES = ("ba", "ro", "ti", "ken", "lu", "mas", "per", "do", "shi", "van", "el", "gra")


def vocabulary() -> list[str]:
    """Some hundred words."""
    return [first + second + end for first in _SYLLABLES for second in _SYLLABLES for end in ("", "s", "n")]


def texts(number: int, words: int, seed: int = 0) -> list[str]:
    """Texts of random words."""
    draw = random.Random(seed)
    known = vocabulary()
    return [" ".join(draw.choices(known, k=words)) for _ in range(number)]


def edited(text: str, changes: int, seed: int = 0) -> str:
    """A text with some words, far from one another, replaced by words that stand nowhere else."""
    words = text.split()
    for change in range(changes):
        words[(2 * change + 1) * len(words) // (2 * changes)] = f"edit{seed}x{change}"
    return " ".join(words)


def row(question: str, answer: str, origin: str = "") -> Row:
    return Row.of([{"role": "user", "content": question}, {"role": "assistant", "content": answer}], origin=origin)


def hash_words(rows: list[Row], path: Path) -> WordHashes:
    """The word hashes of rows."""
    with WordHashWriter(path) as writer:
        for one in rows:
            writer.add(one)
    return writer.words()
