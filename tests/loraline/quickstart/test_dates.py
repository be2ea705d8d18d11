"""The quickstart's task is right, the same each time, and no prompt comes twice."""

import itertools
from datetime import date, timedelta

import pytest

from loraline.errors import DatasetError
from loraline.quickstart import dates
from loraline.quickstart.builtin_datasets import builtin_digest, builtin_rows


@pytest.mark.parametrize(
    ("day", "words"),
    [
        ("1910-01-30", "the thirtieth of January, nineteen ten"),
        ("1917-02-11", "the eleventh of February, nineteen seventeen"),
        ("1999-12-21", "the twenty-first of December, nineteen ninety-nine"),
        ("2010-08-20", "the twentieth of August, twenty ten"),
        ("2025-03-02", "the second of March, twenty twenty-five"),
        ("2080-10-19", "the nineteenth of October, twenty eighty"),
    ],
)
def test_dates_are_written_in_words(day: str, words: str) -> None:
    assert dates.date_in_words(date.fromisoformat(day)) == words


def test_every_date_has_different_words() -> None:
    days = [date(1910, 1, 1) + timedelta(days=number) for number in range((date(2100, 1, 1) - date(1910, 1, 1)).days)]
    days = [day for day in days if day.year % 100 >= 10]
    assert len({dates.date_in_words(day) for day in days}) == len(days)


def test_rows_are_deterministic_and_no_prompt_is_repeated() -> None:
    rows = list(dates.training_rows())
    assert rows == list(dates.training_rows())
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert len({row["completion"] for row in rows}) == len(rows)


def test_the_corpus_contains_no_questions() -> None:
    sentences = list(dates.pretraining_corpus())
    assert sentences[:50] == list(itertools.islice(dates.pretraining_corpus(), 50))
    assert not any("Write this" in sentence for sentence in sentences)


def test_general_rows_are_not_in_the_pretraining_corpus() -> None:
    texts = [row["text"] for row in dates.general_rows()]
    assert texts == [row["text"] for row in builtin_rows("builtin:dates-general")]
    corpus = set(dates.pretraining_corpus())
    assert not corpus & set(texts)
    # In the corpus each of them occurs with another place.
    beginnings = {" ".join(sentence.split()[:4]) for sentence in corpus}
    assert all(" ".join(text.split()[:4]) in beginnings for text in texts)
    assert len(set(texts)) == len(texts) > 200


def test_the_rows_are_pinned_by_their_digests() -> None:
    assert builtin_digest("builtin:dates") == "87df0684fcefff5ff3951eb406c5b33b92ed79708f8e10cd5e1014093b50a5fc"
    assert builtin_digest("builtin:dates-general") == "29f120020b5d5670ccb1460abbd817973745989130f6fdbcd5fcc33918f18d6e"
    with pytest.raises(DatasetError, match="no builtin:times; the built-in datasets are builtin:dates"):
        builtin_digest("builtin:times")
