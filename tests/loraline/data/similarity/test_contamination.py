import json
from pathlib import Path

import numpy as np
import pytest

from loraline.artifacts.dataset_files import EVAL_ROWS
from loraline.data.rows import Row, read_rows
from loraline.data.similarity import contamination
from loraline.data.similarity.contamination import Copy, find_copies
from tests.loraline.data.conftest import Prepare
from tests.loraline.data.texts import edited, hash_words, row, texts

_QUESTIONS, _ANSWERS = texts(30, 45), texts(30, 55, seed=1)
_OTHER_TEXTS = texts(2, 200, seed=9)
_ALL = _QUESTIONS, _ANSWERS, texts(30, 30, seed=7)
_OTHERS = [row(question, answer) for question, answer in zip(texts(60, 45, seed=2), texts(60, 55, seed=3), strict=True)]
_HELD_OUT = [row(question, answer) for question, answer in zip(_QUESTIONS, _ANSWERS, strict=True)]


def _copies(held_out: list[Row], train: list[Row], folder: Path, kept: list[bool] | None = None) -> list[Copy]:
    flags = np.array(kept if kept else [True] * len(train))
    return find_copies(
        hash_words(held_out, folder / "eval"), hash_words(train, folder / "train"), flags, lambda _: None
    )


@pytest.mark.parametrize("changes", [0, 1, 2])
@pytest.mark.parametrize(
    "copy",
    [
        lambda q, a, n: row(edited(q, n), edited(a, n)),
        lambda q, a, n: row(edited(q, n), _OTHER_TEXTS[0]),  # the question, with another answer
        lambda q, a, n: row(_OTHER_TEXTS[0], edited(a, n)),  # the answer, to another question
        lambda q, a, n: row(q.upper().replace(" ", ", "), a.title()),
        lambda q, a, n: Row.of(text=f"{_OTHER_TEXTS[0]} {edited(q, n)}\n{edited(a, n)} {_OTHER_TEXTS[1]}"),
    ],
    ids=["both", "question", "answer", "case and punctuation", "within a text"],
)  # fmt: skip
def test_copies_are_found(copy, changes: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    train = [*_OTHERS, copy(_QUESTIONS[4], _ANSWERS[4], changes)]
    (copy_found,) = _copies(_HELD_OUT, train, tmp_path)
    assert (copy_found.row, copy_found.train_row) == (4, 60)
    assert copy_found.word_overlap > 0.85


def test_rows_that_are_not_copied_are_not_found(tmp_path: Path) -> None:
    assert _copies(_HELD_OUT, _OTHERS, tmp_path) == []
    halves = [row(f"{q[: len(q) // 2]} {o}", f"{o} {a[len(a) // 2 :]}") for q, a, o in zip(*_ALL, strict=True)]
    assert _copies(_HELD_OUT, [*_OTHERS, *halves], tmp_path) == []


def test_rows_made_from_one_template_are_not_copies(tmp_path: Path) -> None:
    (template,) = texts(1, 200)
    rows = [row(f"{template} {one}", f"yes {number}") for number, one in enumerate(texts(60, 16, seed=5))]
    assert _copies(rows[:20], rows[20:], tmp_path) == []
    found = _copies(rows[:20], [*rows[20:], row(f"{template} {texts(60, 16, seed=5)[3]}", "no")], tmp_path)
    assert [(copy.row, copy.train_row) for copy in found] == [(3, 40)]


def test_ngrams_in_many_rows_are_boilerplate(tmp_path: Path) -> None:
    answer = _ANSWERS[0]
    few = [row(question, answer) for question in texts(10, 45, seed=6)]
    many = [row(question, answer) for question in texts(11, 45, seed=6)]
    assert [copy.row for copy in _copies(_HELD_OUT, few, tmp_path)] == [0]
    assert _copies(_HELD_OUT, many, tmp_path) == []


def test_parts_in_several_train_rows_are_no_copy(tmp_path: Path) -> None:
    words = f"{_QUESTIONS[0]} {_ANSWERS[0]}".split()
    pieces = [Row.of(text=f"{' '.join(words[at : at + 20])} {texts(1, 30, seed=at)[0]}") for at in range(0, 100, 20)]
    assert _copies(_HELD_OUT, [*_OTHERS, *pieces], tmp_path) == []


def test_rows_shorter_than_an_ngram_are_copies_only_if_identical(tmp_path: Path) -> None:
    held_out = [*_HELD_OUT, row("Two and two?", "four")]
    for other, found in (("two, and TWO", [30]), ("two and three", []), ("well two and two", [])):
        assert [copy.row for copy in _copies(held_out, [*_OTHERS, row(other, "Four!")], tmp_path)] == found


def test_dropped_train_rows_are_not_compared(tmp_path: Path) -> None:
    train = [*_OTHERS, _HELD_OUT[2]]
    assert len(_copies(_HELD_OUT, train, tmp_path)) == 1
    assert _copies(_HELD_OUT, train, tmp_path, [True] * 60 + [False]) == []


def test_the_result_does_not_depend_on_the_block_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = [*_OTHERS, *(row(edited(q, 1), a) for q, a in zip(_QUESTIONS[::3], _ANSWERS[::3], strict=True))]
    whole = _copies(_HELD_OUT, train, tmp_path)
    assert [copy.row for copy in whole] == list(range(0, 30, 3))
    monkeypatch.setattr(contamination, "EVAL_WORDS_PER_PASS", 250)
    assert _copies(_HELD_OUT, train, tmp_path) == whole


def _fields(questions: list[str], answers: list[str]) -> list[dict[str, str]]:
    return [{"prompt": q, "completion": a} for q, a in zip(questions, answers, strict=True)]


def test_the_report_has_ids_and_lines(tmp_path: Path, run: Prepare) -> None:
    held_out = tmp_path / "eval.jsonl"
    held_out.write_text("".join(json.dumps(fields) + "\n" for fields in _fields(_QUESTIONS, _ANSWERS)))
    copied = _fields([edited(question, 1) for question in _QUESTIONS[:25]], _ANSWERS[:25])
    others = _fields(texts(60, 45, seed=2), texts(60, 55, seed=3))
    report = run([*others, *copied], eval_source=str(held_out))
    result = report.contamination
    assert (result.n, result.eval_examples, result.contaminated, result.fraction) == (
        8,
        30,
        25,
        25 / 30,
    )
    rows = {one.id: one for one in read_rows(tmp_path / "out" / EVAL_ROWS)}
    assert {rows[one].origin for one in result.ids} == {f"{held_out}:{line}" for line in range(1, 26)}
    assert len(result.examples) == 20
    for one in result.examples:
        line = int(one.origin.rsplit(":", 1)[1])
        assert one.train_origin == f"{tmp_path / 'rows.jsonl'}:{60 + line}"
        assert rows[one.id].origin == one.origin
        assert one.excerpt.startswith(_QUESTIONS[line - 1][:50])
