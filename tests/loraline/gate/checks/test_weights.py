"""The check that what is registered is what was evaluated."""

from pathlib import Path

import pytest

from loraline.artifacts.evaluation import ChampionReport, EvaluationReport
from tests.loraline.gate.gate_runs import assert_rejected, decide, named
from tests.loraline.run_outputs import WEIGHTS, Outputs, change, remove_champion, write_outputs


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return write_outputs(tmp_path)


def test_the_verdict_says_what_was_evaluated(outputs: Outputs) -> None:
    evidence = decide(outputs)
    assert evidence.verdict.evaluated_as == "merged weights in float32"
    assert evidence.verdict.reasons[-1] == named(evidence, "weights").detail == "evaluated as merged weights in float32"


def test_an_adapter_on_its_base_is_not_what_is_registered(outputs: Outputs) -> None:
    change(EvaluationReport, outputs.tuned, weights=WEIGHTS)
    assert_rejected(outputs, "weights", "was not evaluated as its merged weights")


def test_another_merged_model_is_not_what_is_registered(outputs: Outputs) -> None:
    change(EvaluationReport, outputs.tuned, weights=WEIGHTS.model_copy(update={"merged_digest": "0" * 64}))
    assert_rejected(outputs, "weights", "that was evaluated has the digest 000000000000")


def test_base_and_tuned_model_are_held_in_the_same_way(outputs: Outputs) -> None:
    change(EvaluationReport, outputs.base, weights=WEIGHTS.model_copy(update={"quantization": "nf4"}))
    words = "the base was evaluated in nf4, with float32 and the tuned model in float32"
    assert_rejected(outputs, "weights", words)


def test_weights_that_had_to_be_quantized_pass_and_it_is_told(outputs: Outputs) -> None:
    remove_champion(outputs.champion)
    quantized = {"quantization": "nf4", "compute_dtype": "bfloat16"}
    for folder in (outputs.base, outputs.tuned):
        report = EvaluationReport.load(folder)
        change(EvaluationReport, folder, weights=report.weights.model_copy(update=quantized))
    evidence = decide(outputs)
    assert evidence.verdict.verdict == "promote"
    assert evidence.verdict.evaluated_as == "merged weights in nf4, with bfloat16"
    assert named(evidence, "weights").detail.endswith("cannot hold in 16 bit what is registered")
    assert named(evidence, "weights").detail in evidence.verdict.reasons


def test_a_champion_that_was_held_differently_is_told(outputs: Outputs) -> None:
    evaluation = ChampionReport.load(outputs.champion).evaluation
    assert evaluation is not None
    held = evaluation.weights.model_copy(update={"compute_dtype": "bfloat16"})
    change(ChampionReport, outputs.champion, evaluation=evaluation.model_copy(update={"weights": held}))
    assert named(decide(outputs), "weights").detail.endswith("the champion in bfloat16")
