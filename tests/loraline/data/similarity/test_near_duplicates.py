import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest

from loraline.artifacts.dataset_files import ROW_FILES
from loraline.data.rows import Row, read_rows
from loraline.data.similarity.near_duplicates import NearDuplicatePair, _banding, find_near_duplicates
from loraline.data.similarity.ngrams import hash_ngrams
from loraline.data.similarity.word_hashes import WordHashes
from tests.loraline.data.conftest import Prepare
from tests.loraline.data.texts import edited, hash_words, row, texts


def _find(sets: list[WordHashes], similarity: float, folder: Path) -> list[NearDuplicatePair]:
    return find_near_duplicates(sets, similarity, folder, lambda _: None)


def _jaccard(words: WordHashes) -> dict[tuple[int, int], float]:
    """The similarity of each pair of rows, one by one."""
    held = [set(hash_ngrams(words.select(np.array([number])), 3).hashes.tolist()) for number in range(len(words))]
    return {
        (i, j): len(held[i] & held[j]) / len(held[i] | held[j]) for i, j in itertools.combinations(range(len(held)), 2)
    }


@pytest.mark.parametrize("similarity", [0.4, 0.7, 0.85, 1.0])
def test_precision_and_recall_against_exact_similarity(similarity: float, tmp_path: Path) -> None:
    originals = texts(120, 60)
    rows = [row(text, f"a{number}") for number, text in enumerate(originals)]
    rows += [row(edited(text, number % 7, seed=number), f"a{number}") for number, text in enumerate(originals)]
    rows = list({one.id: one for one in rows}.values())
    rows += [row(text.upper() + "!", f"A{number}") for number, text in enumerate(originals[:30])]
    words = hash_words(rows, tmp_path / "words")
    exact = _jaccard(words)
    pairs = _find([words], similarity, tmp_path)
    for pair in pairs:
        assert pair.similarity == pytest.approx(exact[tuple(sorted((pair.row, pair.other)))], abs=0.0005)
        assert pair.similarity >= similarity
    named = {pair.row for pair in pairs}
    near = [pair for pair, value in exact.items() if value >= similarity]
    missed = [pair for pair in near if not set(pair) & named]
    assert len(near) >= 30
    assert len(missed) <= 0.02 * len(near)


def test_bands_miss_one_pair_in_a_hundred_at_most() -> None:
    for similarity in np.linspace(0.05, 1.0, 39):
        bands, width = _banding(float(similarity))
        assert bands * width <= 128
        assert (1 - similarity**width) ** bands <= 0.01


def test_rows_made_from_one_template_are_not_near_duplicates(tmp_path: Path) -> None:
    (template,) = texts(1, 300)
    rows = [row(f"{template} {question}", f"answer {number}") for number, question in enumerate(texts(100, 20, seed=1))]
    words = hash_words(rows, tmp_path / "words")
    assert min(_jaccard(words).values()) > 0.85
    assert _find([words], 0.85, tmp_path) == []
    again = [*rows, row(edited(f"{template} {texts(100, 20, seed=1)[7]}", 1), "answer 7")]
    assert {
        frozenset((pair.row, pair.other)) for pair in _find([hash_words(again, tmp_path / "words")], 0.85, tmp_path)
    } == {frozenset((7, 100))}


def test_rows_of_punctuation_alone_are_not_near_duplicates(tmp_path: Path) -> None:
    rows = [Row.of(text=text) for text in ("?", "!", "...", "?!")]
    assert _find([hash_words(rows, tmp_path / "words")], 0.5, tmp_path) == []


def test_pairs_with_an_earlier_set_take_precedence(tmp_path: Path) -> None:
    first, second = texts(2, 60)
    held_out = hash_words([row(first, "a"), row(edited(first, 1, seed=1), "a")], tmp_path / "eval")
    train = hash_words(
        [row(edited(first, 1, seed=2), "a"), row(second, "b"), row(edited(second, 1), "b")], tmp_path / "train"
    )
    others = {pair.row: pair.other for pair in _find([held_out, train], 0.7, tmp_path)}
    assert len(others) == 3
    assert len(set(others) & {0, 1}) == 1  # one of the two rows to evaluate on
    assert others[2] in (0, 1)
    assert {3, 4} == {*(set(others) & {3, 4}), *(other for other in others.values() if other > 1)}


def _rows(number: int) -> list[dict[str, str]]:
    questions, answers = texts(number, 40), texts(number, 20, seed=1)
    return [{"prompt": question, "completion": answer} for question, answer in zip(questions, answers, strict=True)]


def test_near_duplicates_are_reported_or_dropped_independently_of_order(tmp_path: Path, run: Prepare) -> None:
    rows = _rows(150)
    copies = [{**one, "prompt": edited(one["prompt"], 1, seed=number)} for number, one in enumerate(rows[:40])]
    reported = run([*rows, *copies])
    near = reported.near_duplicates
    assert near.within_train + near.within_eval + near.across == 40
    assert near.across > 0
    assert near.dropped == reported.rows.near_duplicates == 0
    assert len(near.examples) == 20
    lines = {(int(one.origin.split(":")[-1]), int(one.other_origin.split(":")[-1])) for one in near.examples}
    assert all(abs(line - other) == 150 for line, other in lines)

    dropped = run([*rows, *copies], near_duplicates="drop")
    assert dropped.rows.near_duplicates == dropped.near_duplicates.dropped == 40
    assert dropped.rows.read == 190 == dropped.rows.train + dropped.rows.eval + 40
    kept = {split: read_rows(tmp_path / "out" / ROW_FILES[split]) for split in ("train", "eval")}
    assert {split: len(rows) for split, rows in kept.items()} == {
        "train": dropped.rows.train,
        "eval": dropped.rows.eval,
    }
    assert dropped.lengths.train["prompt"].rows == dropped.rows.train
    assert dropped.contamination.contaminated == 0
    # Of each two the row to evaluate on is kept.
    assert reported.rows.eval - near.within_eval == dropped.rows.eval

    shuffled = [*rows, *copies]
    random.Random(3).shuffle(shuffled)
    assert run(shuffled, near_duplicates="drop").fingerprint == dropped.fingerprint != reported.fingerprint


def test_the_rows_left_make_the_same_dataset_by_themselves(tmp_path: Path, run: Prepare) -> None:
    rows = _rows(80)
    copies = [{**one, "completion": edited(one["completion"], 1)} for one in rows[:20]]
    dropped = run([*rows, *copies], near_duplicates="drop")
    left = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    origins = {
        int(one.origin.rsplit(":", 1)[1])
        for split in ("train", "eval")
        for one in read_rows(tmp_path / "out" / ROW_FILES[split])
    }
    alone = run([fields for line, fields in enumerate(left, 1) if line in origins])
    assert alone.fingerprint == dropped.fingerprint
    assert alone.lengths == dropped.lengths
    assert alone.near_duplicates.within_train == alone.near_duplicates.across == 0
