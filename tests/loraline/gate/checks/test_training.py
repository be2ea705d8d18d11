"""A loss that broke and a gradient that never moved are a reject."""

from pathlib import Path

from loraline.artifacts.training import StepMetrics, TrainReport
from tests.loraline.gate.gate_runs import assert_rejected
from tests.loraline.run_outputs import change, write_outputs


def test_a_gradient_that_never_moved(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    history = TrainReport.load(outputs.adapter).history
    change(TrainReport, outputs.adapter, history=[point.model_copy(update={"grad_norm": 0.0}) for point in history])
    assert_rejected(outputs, "training", "the adapter's gradient never moved from zero in 180 steps")


def test_a_loss_that_is_not_a_number(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    history = TrainReport.load(outputs.adapter).history
    history[4] = history[4].model_copy(update={"loss": float("nan")})
    change(TrainReport, outputs.adapter, history=history)
    assert_rejected(outputs, "training", "the training loss was not a number in 1 of 180 steps, first in 4")


def test_no_step(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    change(TrainReport, outputs.adapter, history=[StepMetrics(step=0, eval_loss=2.0)])
    assert_rejected(outputs, "training", "training took no step")
