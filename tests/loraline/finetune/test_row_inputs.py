"""Rows in memory, of every kind, become a file of rows."""

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest

from loraline import DatasetError
from loraline.data.source_config import DataSource
from loraline.finetune.job import FineTune
from loraline.finetune.row_inputs import as_source

RECORDS = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]


def lines(source: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(source).read_text().splitlines()]


@pytest.mark.parametrize(
    "rows",
    [RECORDS, tuple(RECORDS), iter(RECORDS), datasets.Dataset.from_list(RECORDS), pandas.DataFrame(RECORDS)],
    ids=["list", "tuple", "iterator", "dataset", "frame"],
)
def test_records_of_every_kind(rows: Iterable[Any], tmp_path: Path) -> None:
    assert lines(as_source(rows, tmp_path)) == RECORDS


def test_the_file_is_named_after_its_content(tmp_path: Path) -> None:
    first = as_source(RECORDS, tmp_path)
    assert as_source(RECORDS, tmp_path) == first != as_source(RECORDS[:1], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2, "nothing unfinished is left"


def test_addresses_stay_as_they_are(tmp_path: Path) -> None:
    assert as_source("s3://bucket/rows.jsonl", tmp_path) == "s3://bucket/rows.jsonl"
    assert as_source(tmp_path / "rows.jsonl", tmp_path) == str(tmp_path / "rows.jsonl")


def test_texts_and_conversations(tmp_path: Path) -> None:
    conversation = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    assert lines(as_source(["a text", conversation], tmp_path)) == [{"text": "a text"}, {"messages": conversation}]


def test_values_that_json_does_not_know(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"prompt": ["a", None], "n": [np.int64(1), 2], "day": [datetime.date(2024, 5, 3)] * 2})
    assert lines(as_source(frame, tmp_path)) == [
        {"prompt": "a", "n": 1, "day": "2024-05-03"},
        {"prompt": None, "n": 2, "day": "2024-05-03"},
    ]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "there are no rows"),
        ([RECORDS[0], 7], "row 2 is of type int"),
        ([{"prompt": object()}], "row 1 cannot be written as JSON"),
        (datasets.DatasetDict(train=datasets.Dataset.from_list(RECORDS)), r"rows\['train'\]"),
        (7, "the rows are of type int"),
    ],
)
def test_what_is_no_row_is_refused(rows: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=reason):
        as_source(rows, tmp_path)
    assert not list(tmp_path.iterdir())


def test_several_sources_stay_as_they_are(tmp_path: Path) -> None:
    one, other = DataSource(source="a.jsonl"), DataSource(source="b.jsonl", weight=2)
    assert as_source(one, tmp_path) == (one,)
    assert as_source([one, other], tmp_path) == (one, other)
    job = FineTune("quickstart", [one, other], folder=tmp_path / "job", general_rows=[{"text": "x"}])
    assert job.recipe.data.source == (one, other)
    assert job.recipe.data.names() == "a.jsonl, b.jsonl"
    assert "a.jsonl, b.jsonl" in repr(job)
