"""Prompts that have other tokens in training, evaluation or serving are a reject."""

from collections.abc import Callable
from pathlib import Path

import pytest

from loraline.artifacts.merging import MergeReport
from loraline.artifacts.training import MaskReport
from tests.loraline.gate.gate_runs import assert_rejected, decide, named
from tests.loraline.run_outputs import (
    Outputs,
    change,
    examples_of,
    prompt_digests,
    write_evaluation,
    write_outputs,
)


def served_otherwise(o: Outputs) -> None:
    prompts = prompt_digests(40)
    change(MergeReport, o.parity, prompts={**prompts, min(prompts): "0" * 16})


def trained_otherwise(o: Outputs) -> None:
    change(MaskReport, o.adapter, prompts=dict.fromkeys(prompt_digests(40), "0" * 16))


def evaluated_otherwise(o: Outputs) -> None:
    write_evaluation(o.base, [e.model_copy(update={"prompt_digest": "0" * 16}) for e in examples_of(o.base)])


def other_prompts(o: Outputs) -> None:
    change(MaskReport, o.adapter, prompts={"another": "0" * 16})


def no_prompts(o: Outputs) -> None:
    change(MergeReport, o.parity, prompts={})


FAULTS: dict[Callable[[Outputs], None], str] = {
    served_otherwise: "1 of 40 prompts have other tokens in training than in serving (02e74f10e0327ad868d1",
    trained_otherwise: "40 of 40 prompts have other tokens in training than in the tuned model's evaluation",
    evaluated_otherwise: "other tokens in the base's evaluation than in the tuned model's evaluation",
    other_prompts: "training and serving have no prompt in common",
    no_prompts: "serving names no prompt",
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_prompts_with_other_tokens(tmp_path: Path, plant: Callable[[Outputs], None]) -> None:
    outputs = write_outputs(tmp_path)
    plant(outputs)
    assert_rejected(outputs, "template", FAULTS[plant])


def test_plain_text_has_no_template(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for folder in (outputs.base, outputs.tuned):
        without = [e.model_copy(update={"prompt": None, "prompt_digest": None}) for e in examples_of(folder)]
        write_evaluation(folder, without)
    change(MaskReport, outputs.adapter, prompts={})
    change(MergeReport, outputs.parity, prompts={})
    evidence = decide(outputs)
    assert evidence.verdict.verdict == "promote"
    assert "not measured: the rows are plain text" in named(evidence, "template").detail
