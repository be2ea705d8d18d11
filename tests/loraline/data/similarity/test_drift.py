"""Drift is nothing between equal data, little between halves of the same, and much between other data."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from loraline.data.description.profile import Profile, profile_of
from loraline.data.rows import Row
from loraline.data.similarity.drift import PARTS, drift
from loraline.quickstart.dates import dataset_rows
from tests.loraline.data.texts import row, taken_down, texts


def _profile(rows: list[Row], folder: Path) -> Profile:
    words = taken_down(rows, folder / "words")
    return profile_of(words, np.ones(len(words), bool))


@pytest.fixture(scope="module")
def dates() -> list[Row]:
    rows = [row(one["prompt"], one["completion"]) for one in dataset_rows()]
    random.Random(1).shuffle(rows)
    return rows


def test_the_same_data_have_not_drifted(dates: list[Row], tmp_path: Path) -> None:
    profile = _profile(dates, tmp_path)
    assert drift(profile, profile) == {"score": 0.0, "parts": dict.fromkeys(PARTS, 0.0)}
    assert len(json.dumps(profile)) < 50_000


@pytest.mark.parametrize("number", [100, 400, 1500])
def test_halves_of_the_same_data_have_hardly_drifted(number: int, dates: list[Row], tmp_path: Path) -> None:
    halves = _profile(dates[:number], tmp_path), _profile(dates[number : 2 * number], tmp_path)
    assert drift(*halves)["score"] < 0.02


def test_other_data_have_drifted(dates: list[Row], tmp_path: Path) -> None:
    ours = _profile(dates[:400], tmp_path)
    other = [row(q, a) for q, a in zip(texts(400, 45), texts(400, 55, seed=1), strict=True)]
    found = drift(ours, _profile(other, tmp_path))
    assert found["score"] > 0.9
    assert min(found["parts"].values()) > 0.5
    assert drift(_profile(other, tmp_path), ours) == found


def test_it_says_what_has_drifted(dates: list[Row], tmp_path: Path) -> None:
    answers = texts(400, 7)
    other = [
        row(one.messages[0]["content"], answer) for one, answer in zip(dates, answers, strict=False) if one.messages
    ]
    parts = drift(_profile(dates[:400], tmp_path), _profile(other[:400], tmp_path))["parts"]
    assert parts["completion_words"] > 0.5
    assert parts["prompt_words"] == 0.0 == parts["prompt_lengths"]


def test_plain_texts_have_no_prompts_to_compare(tmp_path: Path) -> None:
    plain = [Row.of(text=text) for text in texts(50, 30)]
    assert set(drift(_profile(plain, tmp_path), _profile(plain, tmp_path))["parts"]) == {
        "completion_words",
        "completion_lengths",
        "prompt_lengths",
    }
    against = drift(_profile(plain, tmp_path), _profile([row(one.text or "", "a") for one in plain], tmp_path))
    assert against["parts"]["prompt_words"] == 1.0
