from pathlib import Path

import numpy as np
import pytest

from loraline.data.rows import Row
from loraline.data.similarity.word_hashes import split_words
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
def test_words_have_no_case_and_no_punctuation(text: str, words: str) -> None:
    assert [word.decode() for word in split_words(text)] == words.split()


def test_blocks_of_any_size_have_all_rows(tmp_path: Path) -> None:
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


def test_system_messages_are_ignored(tmp_path: Path) -> None:
    plain = row("a question", "an answer")
    with_system = Row.of([{"role": "system", "content": "be brief"}, *(plain.messages or [])])
    words = hash_words([plain, with_system], tmp_path / "words")
    assert words.lengths.tolist() == [4, 4]
