"""An evaluation set without training rows: all rows of a source, checked and deduplicated as for training."""

import json
from pathlib import Path

import pytest

from loraline.data.config import DataConfig
from loraline.data.prepare import prepare_evaluation_set
from loraline.data.rows import read_rows
from loraline.errors import DatasetError
from tests import tiny


def source(folder: Path, *rows: dict[str, str]) -> DataConfig:
    file = folder / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return DataConfig(source=str(file))


def row(number: int) -> dict[str, str]:
    return {"prompt": f"question {number}", "completion": f"answer {number}"}


def test_every_row_is_held_out_once(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    counts = prepare_evaluation_set(source(tmp_path, row(1), row(2), row(1)), model, tmp_path / "out")
    rows = read_rows(tmp_path / "out/eval.parquet")
    assert {row.messages[0]["content"] for row in rows if row.messages} == {"question 1", "question 2"}
    assert (counts.read, counts.eval, counts.duplicates, counts.train) == (3, 2, 1, 0)
    assert not (tmp_path / "out/train.parquet").exists()


def test_bad_rows_are_refused_as_for_training(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    config = source(tmp_path, row(1), {"prompt": "no answer", "completion": ""})
    with pytest.raises(DatasetError, match=r"rows\.jsonl:2"):
        prepare_evaluation_set(config, model, tmp_path / "out")
