from pathlib import Path

import pytest

from loraline.artifacts.dataset_files import ROW_FILES, Split
from loraline.data.rows import Row, read_rows
from loraline.data.split import Splitter, prompt_of
from loraline.errors import DatasetError
from tests.loraline.data.conftest import Prepare, pairs


def _row(*contents: str) -> Row:
    return Row.of([{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)])


def test_the_prompt_is_all_turns_before_the_last_answer() -> None:
    assert prompt_of(_row("A  b\n", "x")) == prompt_of(_row("a B", "y"))
    assert prompt_of(_row("a", "b", "c", "d")) == prompt_of(_row("a", "b", "c", "e"))
    assert prompt_of(_row("a", "b", "c", "d")) != prompt_of(_row("a", "x", "c", "d"))


def test_the_eval_fraction_is_approximately_as_configured() -> None:
    splitter = Splitter(0.2)
    decisions = [splitter.decide(_row(f"question {n}", "answer"), "", None) for n in range(5000)]
    assert 900 < decisions.count("eval") < 1100
    assert decisions.count("train") + decisions.count("eval") == 5000


def _ids(folder: Path, split: Split) -> set[str]:
    return {row.id for row in read_rows(folder / ROW_FILES[split])}


def test_added_rows_leave_the_split_of_others_unchanged(tmp_path: Path, run: Prepare) -> None:
    run(pairs(300, first=100))
    train, held_out = _ids(tmp_path / "out", "train"), _ids(tmp_path / "out", "eval")
    run(pairs(600))
    assert train < _ids(tmp_path / "out", "train")
    assert held_out < _ids(tmp_path / "out", "eval")


def test_all_answers_to_a_prompt_are_in_one_split(tmp_path: Path, run: Prepare) -> None:
    rows = [{"prompt": f"Name a number, {n}", "completion": f"{answer}"} for n in range(100) for answer in range(5)]
    run(rows, eval_fraction=0.3)
    prompts = [
        {prompt_of(row) for row in read_rows(tmp_path / "out" / ROW_FILES[split])} for split in ("train", "eval")
    ]
    assert prompts[0].isdisjoint(prompts[1])
    assert len(prompts[0] | prompts[1]) == 100


def test_an_empty_split_is_an_error_that_says_what_to_change(tmp_path: Path, run: Prepare) -> None:
    same = [{"prompt": "Same", "completion": f"{n}"} for n in range(50)]
    with pytest.raises(DatasetError, match=r"no row is left to (evaluate|train) on .*data\.eval_fraction"):
        run(same)
    with pytest.raises(DatasetError, match=r"every row of data\.source is in data\.eval_source"):
        run(same, eval_source=str(tmp_path / "rows.jsonl"))
