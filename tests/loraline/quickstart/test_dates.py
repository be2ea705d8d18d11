"""The quickstart's task is right, the same each time, and no prompt comes twice."""

import itertools
from datetime import date, timedelta

import pytest

from loraline.errors import ConfigurationError
from loraline.quickstart import dates


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
    assert dates.in_words(date.fromisoformat(day)) == words


def test_no_two_dates_are_called_the_same() -> None:
    days = [date(1910, 1, 1) + timedelta(days=number) for number in range((date(2100, 1, 1) - date(1910, 1, 1)).days)]
    days = [day for day in days if day.year % 100 >= 10]
    assert len({dates.in_words(day) for day in days}) == len(days)


def test_rows_are_the_same_each_time_and_no_prompt_comes_twice() -> None:
    rows = list(dates.dataset_rows())
    assert rows == list(dates.dataset_rows())
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert len({row["completion"] for row in rows}) == len(rows)


def test_the_corpus_never_asks() -> None:
    sentences = list(dates.corpus())
    assert sentences[:50] == list(itertools.islice(dates.corpus(), 50))
    assert not any("Write this" in sentence for sentence in sentences)


def test_general_rows_are_sentences_that_the_base_has_not_seen() -> None:
    texts = [row["text"] for row in dates.general_rows()]
    assert texts == [row["text"] for row in dates.rows("dates-general")]
    corpus = set(dates.corpus())
    assert not corpus & set(texts)
    # In the corpus each of them occurs with another place.
    beginnings = {" ".join(sentence.split()[:4]) for sentence in corpus}
    assert all(" ".join(text.split()[:4]) in beginnings for text in texts)
    assert len(set(texts)) == len(texts) > 200


def test_the_digest_has_a_name() -> None:
    assert dates.digest("dates") == dates.digest("dates") != dates.digest("dates-general")
    with pytest.raises(ConfigurationError, match="no builtin:times; there is only builtin:dates"):
        dates.digest("times")
