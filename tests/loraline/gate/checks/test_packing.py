"""Packed sequences that see one another are a reject."""

from pathlib import Path

import pytest

from loraline.artifacts.training import PackingReport, TrainReport
from tests.loraline.gate.gate_runs import assert_rejected, decide, named
from tests.loraline.run_outputs import change, write_outputs


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (0.3, "a row's loss is 0.3 nats a token from what it is alone, more than the tolerance of 0.001"),
        (float("nan"), "packed rows were not compared"),
    ],
)
def test_losses_that_differ_from_those_of_the_rows_alone(tmp_path: Path, difference: float, words: str) -> None:
    outputs = write_outputs(tmp_path)
    packing = PackingReport(rows=8, max_difference=difference, tolerance=0.001)
    change(TrainReport, outputs.adapter, packing=packing)
    assert_rejected(outputs, "packing", words)


def test_rows_that_were_padded_need_no_proof_of_packing(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    change(TrainReport, outputs.adapter, packing=None)
    evidence = decide(outputs)
    assert evidence.verdict.verdict == "promote"
    assert named(evidence, "packing").detail == "packing not measured: rows were padded, not packed"
