"""A loss mask that hides everything is a reject."""

from pathlib import Path

from loraline.artifacts.training import MaskReport, TrainReport
from tests.loraline.gate.gate_runs import assert_rejected, decide
from tests.loraline.run_outputs import Outputs, change, write_outputs

EMPTY = "no token carried loss in training: the mask is empty"


def empty_sample(outputs: Outputs, length: int | None = None) -> None:
    mask = MaskReport.load(outputs.adapter)
    [sample] = mask.samples
    tokens = [token.model_copy(update={"loss": False}) for token in sample.tokens]
    samples = [sample.model_copy(update={"tokens": tokens, "length": length or sample.length})]
    change(MaskReport, outputs.adapter, samples=samples)


def test_no_labelled_token_in_training(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    change(TrainReport, outputs.adapter, labelled_tokens=0)
    assert_rejected(outputs, "mask", EMPTY)


def test_no_labelled_token_in_the_samples(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    empty_sample(outputs)
    assert_rejected(outputs, "mask", EMPTY)


def test_a_sample_that_ends_before_its_answer_shows_nothing(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    empty_sample(outputs, length=2000)
    assert decide(outputs).verdict.verdict == "promote"
