"""Held-out rows that were learned are a reject, above the threshold."""

from pathlib import Path
from typing import Any

from loraline.artifacts.dataset import DatasetReport
from tests.loraline.gate.gate_runs import assert_rejected, decide
from tests.loraline.run_outputs import Outputs, change, write_outputs
from tests.loraline.run_reports import contamination


def near_duplicates(outputs: Outputs, **fields: Any) -> None:
    found = DatasetReport.load(outputs.dataset).near_duplicates
    change(DatasetReport, outputs.dataset, near_duplicates=found.model_copy(update=fields))


def test_copied_rows(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    change(DatasetReport, outputs.dataset, contamination=contamination(40, list("abcdef")))
    assert_rejected(
        outputs,
        "contamination",
        "6 of 40 held-out rows are copied in training rows, fraction 0.15 (a, b, c, ...): "
        "more than gate.max_contamination = 0.01",
    )


def test_near_duplicates(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    near_duplicates(outputs, across=4)
    assert_rejected(outputs, "contamination", "4 training rows nearly repeat one of them, fraction 0.1: more than")


def test_no_row_compared(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    none = contamination(40).model_copy(update={"eval_examples": 0})
    change(DatasetReport, outputs.dataset, contamination=none)
    assert_rejected(outputs, "contamination", "no held-out row was compared with the rows to train on")


def test_a_little_contamination_is_named_also_on_a_promote(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path, count=200)
    assert len(decide(outputs).verdict.reasons) == 6
    change(DatasetReport, outputs.dataset, contamination=contamination(200, ["a"]))
    verdict = decide(outputs).verdict
    assert verdict.verdict == "promote"
    assert "1 of 200 held-out rows are copied in training rows, fraction 0.005 (a)" in verdict.reasons[-1]


def test_near_duplicates_that_were_dropped_are_no_contamination(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    near_duplicates(outputs, across=4, dropped=7, action="drop")
    assert decide(outputs).verdict.verdict == "promote"
