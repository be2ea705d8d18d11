"""The step as a whole: what it keeps, what it drops, what it says, and how much memory it takes."""

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from loraline import storage
from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.dataset_files import BAD_ROWS, EVAL_ROWS, PAGE, TRAIN_ROWS
from loraline.data.config import DataConfig
from loraline.data.description.lengths import token_counter
from loraline.data.prepare import prepare
from loraline.data.rows import read_rows
from loraline.errors import DatasetError
from loraline.models.folder import load_tokenizer
from tests.loraline.data.conftest import Prepare, pairs

_BAD = [{"prompt": "no completion"}, {"prompt": "", "completion": 3}]


def _write(rows: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_row_is_accounted_for(tmp_path: Path, run: Prepare) -> None:
    rows = pairs(200)
    report = run([*rows, *rows[:7], *_BAD], max_bad_fraction=0.05)
    assert report.rows.model_dump() == {
        "read": 209,
        "train": len(read_rows(tmp_path / "out" / TRAIN_ROWS)),
        "eval": len(read_rows(tmp_path / "out" / EVAL_ROWS)),
        "bad": 2,
        "duplicates": 7,
        "prompt_overlap": 0,
        "near_duplicates": 0,
        "personal_data": 0,
        "policy": 0,
        "left_out": 0,
    }
    assert report.rows.train + report.rows.eval == 200
    assert DatasetReport.load(tmp_path / "out") == report


def test_duplicates_are_reported_with_the_row_that_they_repeat(tmp_path: Path, run: Prepare) -> None:
    rows = pairs(100)
    spelled_otherwise = {
        "prompt": rows[4]["prompt"].replace("\u00e9", "e\u0301"),
        "completion": "It is\r\n4, of course.",
    }
    report = run([*rows, rows[10], spelled_otherwise])
    file = tmp_path / "rows.jsonl"
    assert [(row.origin, row.other_origin) for row in report.duplicates] == [
        (f"{file}:101", f"{file}:11"),
        (f"{file}:102", f"{file}:5"),
    ]
    assert report.fingerprint == run(rows).fingerprint


def test_all_bad_rows_are_listed_at_once(tmp_path: Path, run: Prepare) -> None:
    bad = [{"prompt": f"{n}"} for n in range(150)]
    with pytest.raises(DatasetError) as raised:
        run([*pairs(50), *bad])
    message = str(raised.value)
    assert message.startswith("150 of 200 rows are bad; data.max_bad_fraction = 0.0 allows 0")
    assert f"{tmp_path / 'rows.jsonl'}:51: column 'completion': missing" in message
    assert "and 130 more problems" in message
    assert "data.max_bad_fraction=0.751" in message
    listed = [json.loads(line) for line in (tmp_path / "out" / BAD_ROWS).read_text().splitlines()]
    assert [problem["line"] for problem in listed] == list(range(51, 201))


def test_bad_rows_are_dropped_up_to_the_fraction(tmp_path: Path, run: Prepare) -> None:
    report = run([*_BAD, *pairs(98)], max_bad_fraction=0.02)
    assert report.rows.bad == 2
    assert report.bad_kinds == {"missing field": 1, "empty field": 1, "wrong type": 1}
    assert [(problem.line, problem.column) for problem in report.bad_rows] == [
        (1, "completion"),
        (2, "prompt"),
        (2, "completion"),
    ]
    assert report.fingerprint == run(pairs(98)).fingerprint
    with pytest.raises(DatasetError, match="2 of 100 rows are bad"):
        run([*_BAD, *pairs(98)], max_bad_fraction=0.019)


def test_the_suggested_fraction_is_sufficient(run: Prepare) -> None:
    rows = [*_BAD, *pairs(94)]
    with pytest.raises(DatasetError) as raised:
        run(rows)
    suggested = re.search(r"data\.max_bad_fraction=([\d.]+)", str(raised.value))
    assert suggested
    assert run(rows, max_bad_fraction=float(suggested[1])).rows.bad == 2


def test_an_unreadable_file_cannot_be_dropped(tmp_path: Path, run: Prepare) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(pairs(100))[:-5])
    with pytest.raises(DatasetError, match="Repair or replace the files"):
        run(tmp_path / "rows.json", max_bad_fraction=0.9)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_no_rows_at_all_is_an_error(content: str, tmp_path: Path, run: Prepare) -> None:
    (tmp_path / "empty.jsonl").write_text(content)
    with pytest.raises(DatasetError, match=r"empty\.jsonl' has no rows"):
        run(tmp_path / "empty.jsonl")


def test_bad_rows_before_the_first_valid_one(tmp_path: Path, run: Prepare) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in pairs(200))
    (tmp_path / "rows.jsonl").write_text("not json\n" * 250 + rows, encoding="utf-8")
    assert run(tmp_path / "rows.jsonl", max_bad_fraction=0.6).rows.bad == 250


def test_rows_without_any_column(run: Prepare) -> None:
    with pytest.raises(DatasetError, match=r"columns of .* are \[\]"):
        run([{}, {}])


def test_a_source_of_bad_rows_alone(tmp_path: Path, run: Prepare) -> None:
    (tmp_path / "bad.jsonl").write_text("not json\n" * 5)
    with pytest.raises(DatasetError, match=r"5 of 5 rows are bad.*\n.*bad\.jsonl:1: not JSON"):
        run(tmp_path / "bad.jsonl", max_bad_fraction=0.5)


def test_rows_of_the_eval_source_are_never_trained_on(tmp_path: Path, run: Prepare) -> None:
    rows = pairs(100)
    other_answer = {"prompt": rows[95]["prompt"].upper() + " ", "completion": "Another answer"}
    held_out = _write([*rows[90:], other_answer], tmp_path / "eval.jsonl")
    report = run(rows, eval_source=str(held_out))
    assert (report.rows.train, report.rows.eval, report.rows.prompt_overlap) == (90, 11, 10)
    assert [row.origin for row in report.prompt_overlaps] == [
        f"{tmp_path / 'rows.jsonl'}:{line}" for line in range(91, 101)
    ]
    assert [row.other_origin for row in report.prompt_overlaps[:5]] == [f"{held_out}:{line}" for line in range(1, 6)]
    assert [source.name for source in report.sources] == [str(tmp_path / "rows.jsonl"), str(held_out)]
    without = run(rows[:90], eval_source=str(held_out))
    assert without.rows.prompt_overlap == 0
    assert without.fingerprint == report.fingerprint


def test_the_same_input_gives_the_same_files(tmp_path: Path, run: Prepare) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    run([*pairs(300), *_BAD], max_bad_fraction=0.1)
    first = files()
    run([*pairs(300), *_BAD], max_bad_fraction=0.1)
    assert files() == first
    assert set(first) == {TRAIN_ROWS, EVAL_ROWS, DatasetReport.FILE, PAGE, BAD_ROWS}


def test_rows_from_the_object_store(tmp_path: Path, run: Prepare, s3: dict[str, str]) -> None:
    expected = run(pairs(200))
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    _write(pairs(120), folder / "deeper" / "a b.jsonl")
    _write(pairs(80, first=120), folder / "c.jsonl")
    storage.upload(folder, "s3://prepare/rows")
    report = run("s3://prepare/rows")
    assert report.fingerprint == expected.fingerprint
    assert report.sources[0].bytes == sum(path.stat().st_size for path in folder.rglob("*.jsonl"))
    origins = {row.origin.rsplit(":", 1)[0] for row in read_rows(tmp_path / "out" / TRAIN_ROWS)}
    assert origins == {"s3://prepare/rows/deeper/a b.jsonl", "s3://prepare/rows/c.jsonl"}
    assert run("s3://prepare/rows/c.jsonl").rows.read == 80
    with pytest.raises(DatasetError, match="s3://prepare/nothing"):
        run("s3://prepare/nothing")


def test_a_dataset_of_the_hub(tmp_path: Path, run: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    # `datasets` reads a folder of that name in the working directory as it does a repository of the Hub.
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    _write(pairs(150), tmp_path / "owner" / "name" / "train.jsonl")
    _write(pairs(50, first=150), tmp_path / "owner" / "name" / "test.jsonl")
    report = run("hf://owner/name", eval_source="hf://owner/name")
    assert (report.rows.train, report.rows.eval) == (150, 50)
    origins = sorted(row.origin for row in read_rows(tmp_path / "out" / EVAL_ROWS))
    assert origins[0] == "hf://owner/name/test:1"
    with pytest.raises(DatasetError, match=r"hf://owner/name/nosplit.*data\.split"):
        run("hf://owner/name", split="nosplit")


def test_the_builtin_dataset(run: Prepare) -> None:
    report = run("builtin:dates")
    assert report.rows.read == report.rows.train + report.rows.eval > 100
    # All its rows are made from one template, and each is another date.
    assert report.contamination.contaminated == 0
    assert report.near_duplicates.across == report.near_duplicates.within_train == 0
    assert report.personal_data.rows == 0
    with pytest.raises(DatasetError, match="builtin:dates"):
        run("builtin:nothing")


def test_lengths_are_in_tokens_of_the_tokenizer(tmp_path: Path, run: Prepare, tokenizer_folder: Path) -> None:
    report = run(pairs(300))
    tokenizer = load_tokenizer(tokenizer_folder)
    rows = read_rows(tmp_path / "out" / TRAIN_ROWS)
    answers = sorted(len(tokenizer(row.messages[1]["content"])["input_ids"]) for row in rows if row.messages)
    lengths = report.lengths.train["completion"]
    assert (lengths.rows, lengths.total) == (len(answers), sum(answers))
    assert (lengths.min, lengths.max) == (answers[0], answers[-1])
    assert lengths.median == (answers[(len(answers) - 1) // 2] + answers[len(answers) // 2]) / 2
    assert sum(lengths.histogram) == len(answers)
    assert token_counter(tokenizer)(["", "a"]) == [0, 1]


@pytest.fixture
def quick_tokenizer(tmp_path: Path) -> Path:
    """A tokenizer to which the test's long texts are one word each: it costs no time."""
    words = ["?", "</s>", "why" * 7000, "because" * 3000, *"0123456789"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"(why)+|(because)+|[0-9]"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_memory_does_not_grow_with_the_input(tmp_path: Path, quick_tokenizer: Path) -> None:
    def peak(number: int) -> int:
        source = tmp_path / f"{number}.jsonl"
        with source.open("w", encoding="utf-8") as file:
            for n in range(number):
                file.write(json.dumps({"prompt": f"{n}" + "why" * 7000, "completion": "because" * 3000}) + "\n")
        config = DataConfig(source=str(source), eval_fraction=0.5)
        tracemalloc.start()
        prepare(config, quick_tokenizer, tmp_path / "out")
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(10)  # imports
    small, large = peak(300), peak(3000)
    added = (tmp_path / "3000.jsonl").stat().st_size - (tmp_path / "300.jsonl").stat().st_size
    assert added > 100_000_000
    assert large - small < added / 16  # not zero: two buffers of 4 MB are full at the same time by chance
