"""Metrics of an answer, against hand-computed cases and the library rouge-score."""

import random

import pytest
from rouge_score.rouge_scorer import RougeScorer

from loraline.evaluation.metrics import (
    common_subsequence_length,
    exact_match,
    json_f1,
    rouge_l,
    squad_tokens,
    token_f1,
)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("Paris", "Paris", 1.0),
        ("  Paris\n", "Paris", 1.0),
        ("paris", "Paris", 0.0),
        ("15", "-1.5", 0.0),  # SQuAD's own exact match calls these equal
        ("", "", 1.0),
    ],
)
def test_exact_match(answer: str, reference: str, expected: float) -> None:
    assert exact_match(answer, reference) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The cat!", "a cat", 1.0),
        ("the cat sat", "the cat ran away", 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)),
        ("cat cat", "cat", 2 * (1 / 2) * 1 / (1 / 2 + 1)),
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
        ("the", "a", 1.0),  # both empty once normalized
        ("\u5317\u4eac", "\u5317\u4eac\u3002", 1.0),
        ("\u5317\u65b9", "\u5317\u4eac", 0.5),  # scripts without spaces: characters are tokens
    ],
)
def test_token_f1(answer: str, reference: str, expected: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(expected)


def test_normalization_equals_squads() -> None:
    assert squad_tokens("An  Apple-tree's fruit, the (red) one") == ["appletrees", "fruit", "red", "one"]


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("the cat sat on a mat", "a cat was on the mat"), ("It's 5 o'clock", "5 o clock it is"), ("", "x"), ("x", "y")],
)
def test_rouge_l_of_english_equals_rouge_scores(answer: str, reference: str) -> None:
    expected = RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure
    assert rouge_l(answer, reference) == pytest.approx(expected)


def test_rouge_l_of_random_words_equals_rouge_scores() -> None:
    draw, library = random.Random(0), RougeScorer(["rougeL"])
    for _ in range(300):
        answer, reference = (" ".join(draw.choices("abcd", k=draw.randrange(90))) for _ in range(2))
        assert rouge_l(answer, reference) == library.score(reference, answer)["rougeL"].fmeasure


def test_common_subsequence_length() -> None:
    assert common_subsequence_length(list("abcbdab"), list("bdcaba")) == 4
    assert common_subsequence_length(list("aaa"), list("a")) == common_subsequence_length(list("a"), list("aaa")) == 1
    assert common_subsequence_length([], ["a"]) == common_subsequence_length(["a"], []) == 0


def test_rouge_l_supports_other_scripts() -> None:
    assert rouge_l("\u043a\u043e\u0442 \u0441\u043f\u0438\u0442", "\u043a\u043e\u0442 \u0441\u043f\u0438\u0442") == 1.0
    assert rouge_l("\u5317\u65b9", "\u5317\u4eac") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"name": "Ann", "count": 2}', 1.0),
        ('{"count": 2.0, "name": "Ann"}', 1.0),
        ('```json\n{"name": "Ann", "count": 2}\n```', 1.0),
        ('{"name": "Ann", "count": 2}\n```', 1.0),
        ('{"name": "Ann", "count": "2"}', 0.5),
        ('{"name": "Ann"}', 2 / 3),
        ('{"name": "Ann", "count": 2, "day": "Friday"}', 0.8),
        ('{"name": "Ann", "count": {"count": 2}}', 0.5),
        ("{}", 0.0),
        ('Sure! {"name": "Ann", "count": 2}', 0.0),
        ('{"name": "Ann", "count": 2', 0.0),
        ('[{"name": "Ann", "count": 2}]', 0.0),
        ("", 0.0),
        ("[" * 100_000, 0.0),
    ],
)
def test_json_f1_is_of_fields_with_their_values(answer: str, expected: float) -> None:
    assert json_f1(answer, '{"name": "Ann", "count": 2}') == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("{}", "{}", 1.0),
        ("[1, [2, true]]", "[1, [2, true]]", 1.0),
        ("[1, [2, 1]]", "[1, [2, true]]", 2 / 3),
        ('{"a": [], "b": null}', '{"a": null, "b": null}', 0.5),
        ('{"a": 1e999}', f'{{"a": {"9" * 400}}}', 0.0),
    ],
)
def test_json_f1_of_nested_and_empty_values(answer: str, reference: str, expected: float) -> None:
    assert json_f1(answer, reference) == pytest.approx(expected)


@pytest.mark.parametrize("reference", ["words", "42", '"a string"', "null", "", '{"cut": '])
def test_json_f1_needs_a_reference_in_json(reference: str) -> None:
    assert json_f1("{}", reference) is None
