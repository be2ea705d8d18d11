import random

import numpy as np
import pytest

from loraline.data.similarity.ngrams import hash_ngrams
from loraline.data.similarity.word_hashes import WordBlock


@pytest.mark.parametrize("n", [1, 3, 8])
def test_ngram_hashes_are_equal_only_for_equal_words(n: int) -> None:
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
