import random
import tracemalloc
from pathlib import Path

import pytest

from loraline.artifacts.dataset_files import ROW_FILES
from loraline.data.rows import Row, read_rows
from loraline.data.split import Fingerprint, HashIndex, Splitter, prompt_of
from loraline.errors import DatasetError
from tests.loraline.data.conftest import Prepare, pairs


def test_the_index_is_a_set() -> None:
    draw = random.Random(1)
    keys = [draw.getrandbits(64) for _ in range(20000)] + [0, 1, 2**64 - 1]
    index, expected = HashIndex(), set()
    for key in keys + keys[:100]:
        assert index.add(key) == (max(key, 1) not in expected)
        expected.add(max(key, 1))
    assert len(index) == len(expected)
    assert all(key in index for key in keys)
    assert not any(draw.getrandbits(64) in index for _ in range(1000))


def test_the_index_takes_a_few_bytes_a_row() -> None:
    draw = random.Random(1)
    tracemalloc.start()
    index = HashIndex()
    for _ in range(100_000):
        index.add(draw.getrandbits(64))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 25 * len(index)


def test_the_fingerprint_does_not_depend_on_order() -> None:
    def of(*rows: tuple[str, str]) -> str:
        fingerprint = Fingerprint()
        for side, row_id in rows:
            fingerprint.add(side, row_id)
        return fingerprint.hexadecimal()

    assert of(("train", "a"), ("eval", "b")) == of(("eval", "b"), ("train", "a"))
    others = [(("train", "b"), ("eval", "a")), (("train", "a"),), (("train", "a"), ("train", "b"))]
    assert len({of(*rows) for rows in others} | {of(("train", "a"), ("eval", "b"))}) == 4


def _row(*contents: str) -> Row:
    return Row.of([{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)])


def test_a_prompt_is_all_before_the_last_answer() -> None:
    assert prompt_of(_row("A  b\n", "x")) == prompt_of(_row("a B", "y"))
    assert prompt_of(_row("a", "b", "c", "d")) == prompt_of(_row("a", "b", "c", "e"))
    assert prompt_of(_row("a", "b", "c", "d")) != prompt_of(_row("a", "x", "c", "d"))


def test_the_fraction_is_about_what_was_asked_for() -> None:
    splitter = Splitter(0.2)
    fates = [splitter.decide(_row(f"question {n}", "answer"), "", None) for n in range(5000)]
    assert 900 < fates.count("eval") < 1100
    assert fates.count("train") + fates.count("eval") == 5000


def _ids(folder: Path, side: str) -> set[str]:
    return {row.id for row in read_rows(folder / ROW_FILES[side])}


def test_rows_never_move_when_rows_are_added(tmp_path: Path, run: Prepare) -> None:
    run(pairs(300, first=100))
    train, held_out = _ids(tmp_path / "out", "train"), _ids(tmp_path / "out", "eval")
    run(pairs(600))
    assert train < _ids(tmp_path / "out", "train")
    assert held_out < _ids(tmp_path / "out", "eval")


def test_answers_to_one_prompt_stay_together(tmp_path: Path, run: Prepare) -> None:
    rows = [{"prompt": f"Name a number, {n}", "completion": f"{answer}"} for n in range(100) for answer in range(5)]
    run(rows, eval_fraction=0.3)
    prompts = [{prompt_of(row) for row in read_rows(tmp_path / "out" / ROW_FILES[side])} for side in ("train", "eval")]
    assert prompts[0].isdisjoint(prompts[1])
    assert len(prompts[0] | prompts[1]) == 100


def test_an_empty_side_is_an_error_that_says_what_to_change(tmp_path: Path, run: Prepare) -> None:
    same = [{"prompt": "Same", "completion": f"{n}"} for n in range(50)]
    with pytest.raises(DatasetError, match=r"no row is left to (evaluate|train) on .*data\.eval_fraction"):
        run(same)
    with pytest.raises(DatasetError, match=r"every row of data\.source is in data\.eval_source"):
        run(same, eval_source=str(tmp_path / "rows.jsonl"))
