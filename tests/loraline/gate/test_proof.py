"""What was trained, what is served and what was judged must be the same; and no held-out row was learned."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loraline.gate.judging import decide, load, named
from tests.loraline.run_outputs import (
    Outputs,
    change,
    prompt_digests,
    read_lines,
    write_evaluation,
    write_outputs,
)


def parity(o: Outputs) -> None:
    change(o.parity / "parity.json", max_abs_logit_difference=0.7)


def nan_parity(o: Outputs) -> None:
    change(o.parity / "parity.json", max_abs_logit_difference=float("nan"))


def divergence(o: Outputs) -> None:
    change(o.parity / "parity.json", kl_divergence={"mean": 0.001, "max": 0.02})


def no_divergence(o: Outputs) -> None:
    change(o.parity / "parity.json", kl_divergence=None)


def unmeasured_parity(o: Outputs) -> None:
    names = ("max_abs_logit_difference", "mean_abs_logit_difference", "kl_divergence", "greedy")
    change(o.parity / "parity.json", **dict.fromkeys(names), examples=0, positions=0)


def other_text(o: Outputs) -> None:
    change(o.parity / "parity.json", greedy={"examples": 8, "tokens": 180, "equal": 6, "ties": 1})


def no_text(o: Outputs) -> None:
    change(o.parity / "parity.json", greedy={"examples": 0, "tokens": 0, "equal": 0, "ties": 0})


def wrong_base(o: Outputs) -> None:
    change(o.adapter / "training.json", base_digest="a" * 64)


def unknown_base(o: Outputs) -> None:
    change(o.adapter / "training.json", base_digest=None)


def leaking_rows(o: Outputs) -> None:
    change(o.adapter / "training.json", packing={"rows": 8, "max_difference": 0.3, "tolerance": 0.001})


def nan_rows(o: Outputs) -> None:
    change(o.adapter / "training.json", packing={"rows": 8, "max_difference": float("nan"), "tolerance": 0.001})


def unknown_packing(o: Outputs) -> None:
    training = load(o.adapter / "training.json")
    del training["packing"]
    (o.adapter / "training.json").write_text(json.dumps(training))


def served_otherwise(o: Outputs) -> None:
    prompts = prompt_digests(40)
    change(o.parity / "parity.json", prompts={**prompts, min(prompts): "0" * 16})


def trained_otherwise(o: Outputs) -> None:
    change(o.adapter / "mask.json", prompts=dict.fromkeys(prompt_digests(40), "0" * 16))


def evaluated_otherwise(o: Outputs) -> None:
    examples = read_lines(o.base / "examples.jsonl")
    write_evaluation(o.base, [{**example, "prompt_digest": "0" * 16} for example in examples])


def other_prompts(o: Outputs) -> None:
    change(o.adapter / "mask.json", prompts={"another": "0" * 16})


def no_prompts(o: Outputs) -> None:
    change(o.parity / "parity.json", prompts={})


def contamination(o: Outputs) -> None:
    found = {"n": 8, "eval_examples": 40, "contaminated": 6, "fraction": 0.15, "ids": list("abcdef"), "examples": []}
    change(o.dataset / "report.json", contamination=found)


def near_duplicates(o: Outputs) -> None:
    found = load(o.dataset / "report.json")["near_duplicates"]
    change(o.dataset / "report.json", near_duplicates={**found, "across": 4})


def no_contamination(o: Outputs) -> None:
    change(o.dataset / "report.json", contamination=None)


FAULTS: dict[Callable[[Outputs], None], tuple[str, str]] = {
    parity: ("merge", "by up to 0.7 in a logit, more than the tolerance of 0.5"),
    nan_parity: ("merge", "the merge was not compared"),
    divergence: (
        "merge",
        "up to 0.02 nats (KL) from the adapter's on its base, more than merge.max_kl_divergence = 0.01",
    ),
    no_divergence: ("merge", "the merge's distributions were not compared"),
    unmeasured_parity: ("merge", "parity was not measured: there were no rows"),
    other_text: ("merge", "something else than the adapter on its base in 1 of 8 greedy generations"),
    no_text: ("merge", "the merged model's generations were not compared"),
    wrong_base: ("merge", "was trained on the base aaaaaaaaaaaa and merged into another, bbbbbbbbbbbb"),
    unknown_base: ("merge", "the training's report does not name its base"),
    leaking_rows: (
        "packing",
        "a row's loss is 0.3 nats a token from what it is alone, more than the tolerance of 0.001",
    ),
    nan_rows: ("packing", "packed rows were not compared"),
    unknown_packing: ("packing", "does not say whether rows were packed"),
    served_otherwise: (
        "template",
        "1 of 40 prompts have other tokens in training than in serving (02e74f10e0327ad868d1",
    ),
    trained_otherwise: (
        "template",
        "40 of 40 prompts have other tokens in training than in the tuned model's evaluation",
    ),
    evaluated_otherwise: ("template", "other tokens in the base's evaluation than in the tuned model's evaluation"),
    other_prompts: ("template", "training and serving have no prompt in common"),
    no_prompts: ("template", "serving names no prompt"),
    contamination: (
        "contamination",
        "6 of 40 held-out rows are copied in training rows, fraction 0.15 (a, b, c, ...): "
        "more than gate.max_contamination = 0.01",
    ),
    near_duplicates: ("contamination", "4 training rows nearly repeat one of them, fraction 0.1: more than"),
    no_contamination: ("contamination", "does not say how many held-out rows training saw"),
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_fault_is_a_reject_that_names_it(tmp_path: Path, plant: Callable[[Outputs], None]) -> None:
    outputs = write_outputs(tmp_path)
    plant(outputs)
    evidence = decide(outputs)
    name, words = FAULTS[plant]
    assert words in named(evidence, name).detail
    assert [check.name for check in evidence.checks if not check.passed] == [name]


def test_rows_that_were_padded_need_no_proof_of_packing(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    change(outputs.adapter / "training.json", packing=None)
    evidence = decide(outputs)
    assert evidence.verdict.verdict == "promote"
    assert named(evidence, "packing").detail == "not measured: rows were padded, not packed"


def test_plain_text_has_no_template(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for side in (outputs.base, outputs.tuned):
        examples = read_lines(side / "examples.jsonl")
        write_evaluation(side, [{**example, "prompt": None, "prompt_digest": None} for example in examples])
    change(outputs.adapter / "mask.json", prompts={})
    change(outputs.parity / "parity.json", prompts={})
    evidence = decide(outputs)
    assert evidence.verdict.verdict == "promote"
    assert "not measured: the rows are plain text" in named(evidence, "template").detail


def test_a_little_contamination_is_said_also_on_a_promote(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path, count=200)
    assert len(decide(outputs).verdict.reasons) == 5
    found = {"n": 8, "eval_examples": 200, "contaminated": 1, "fraction": 0.005, "ids": ["a"], "examples": []}
    change(outputs.dataset / "report.json", contamination=found)
    verdict = decide(outputs).verdict
    assert verdict.verdict == "promote"
    assert "1 of 200 held-out rows are copied in training rows, fraction 0.005 (a)" in verdict.reasons[-1]


def test_near_duplicates_that_were_left_out_are_no_contamination(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    found = load(outputs.dataset / "report.json")["near_duplicates"]
    change(outputs.dataset / "report.json", near_duplicates={**found, "across": 4, "dropped": 7, "action": "drop"})
    assert decide(outputs).verdict.verdict == "promote"
