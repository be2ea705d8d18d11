"""A dataset without rows on a side is a reject."""

from pathlib import Path

import pytest

from loraline.artifacts.dataset import DatasetReport
from tests.loraline.gate.gate_runs import assert_rejected
from tests.loraline.run_outputs import change, write_outputs


@pytest.mark.parametrize(
    ("side", "words"),
    [("train", "the dataset has no rows to train on"), ("eval", "the dataset has no rows held out")],
)
def test_no_rows_on_a_side(tmp_path: Path, side: str, words: str) -> None:
    outputs = write_outputs(tmp_path)
    rows = DatasetReport.load(outputs.dataset).rows
    change(DatasetReport, outputs.dataset, rows=rows.model_copy(update={side: 0}))
    assert_rejected(outputs, "data", words)


def test_no_fingerprint(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    change(DatasetReport, outputs.dataset, fingerprint="")
    assert_rejected(outputs, "data", "names no fingerprint")
