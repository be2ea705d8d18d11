import random
from pathlib import Path

import numpy as np
import pytest

from loraline.data.rows import Row
from loraline.data.similarity.ngrams import hash_ngrams
from loraline.data.similarity.word_hashes import WordBlock, split_words
from tests.loraline.data.texts import hash_words, row, texts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3/4, isn't it?", "it s 3 4 isn t it"),
        ("snake_case\tand\nlines", "snake case and lines"),
        ("Une \u00c9t\u00e9 snake_case", "une \u00e9t\u00e9 snake case"),
        ("\u4e2d\u6587 is 2", "\u4e2d \u6587 is 2"),
        ("... !", ""),
    ],
)
def test_words_are_without_case_and_punctuation(text: str, words: str) -> None:
    assert [word.decode() for word in split_words(text)] == words.split()


@pytest.mark.parametrize("n", [1, 3, 8])
def test_runs_are_equal_where_their_words_are_and_nowhere_else(n: int) -> None:
    draw = random.Random(n)
    rows = [[draw.randrange(3) for _ in range(draw.randrange(1, 30))] for _ in range(200)]
    lengths = np.array([len(one) for one in rows])
    runs = hash_ngrams(WordBlock(0, np.array([word for one in rows for word in one], np.uint32), lengths), n)
    seen: dict[tuple[int, ...], int] = {}
    for one, start, count in zip(rows, runs.starts, runs.counts, strict=True):
        padded = [*one, *[0] * (n - len(one))]
        expected = [tuple(padded[place : place + n]) for place in range(len(padded) - n + 1)]
        assert count == len(expected)
        assert all(
            seen.setdefault(run, found) == found for run, found in zip(expected, runs.hashes[start:], strict=False)
        )
    assert len(set(seen.values())) == len(seen)


def test_blocks_hold_all_rows_whatever_their_size(tmp_path: Path) -> None:
    rows = [row(text, "answer") for length in (1, 40, 3, 700) for text in texts(10, length)]
    rows.append(Row.of(text="?!"))
    words = hash_words(rows, tmp_path / "words")
    whole = words.select(np.arange(len(rows)))
    for size in (1, 50, 10_000):
        blocks = list(words.blocks(size))
        assert [block.first for block in blocks] == np.cumsum([0, *(len(block.lengths) for block in blocks)])[
            :-1
        ].tolist()
        assert np.concatenate([block.words for block in blocks]).tolist() == whole.words.tolist()
    assert words.lengths.tolist() == [*[2] * 10, *[41] * 10, *[4] * 10, *[701] * 10, 1]
    assert words.prompt_lengths.tolist()[:11] == [*[1] * 10, 40]
    picked = words.select(np.array([30, 0]))
    assert picked.words.tolist() == [*whole.words[470 : 470 + 701], *whole.words[:2]]


def test_system_messages_are_not_compared(tmp_path: Path) -> None:
    plain = row("a question", "an answer")
    with_system = Row.of([{"role": "system", "content": "be brief"}, *(plain.messages or [])])
    words = hash_words([plain, with_system], tmp_path / "words")
    assert words.lengths.tolist() == [4, 4]
