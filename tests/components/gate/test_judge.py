"""Every way to go wrong is a reject that names it, and the twin without the fault passes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.gate.config import GateConfig
from components.gate.judge import judge
from components.shared.evidence import Evidence, read_evidence
from tests.components.run_outputs import LINEAGE, Outputs, change, write_evaluation, write_outputs

CONFIG = GateConfig(metric="exact_match", min_gain=0.05, min_examples=20)


def decide(outputs: Outputs, config: GateConfig = CONFIG) -> Evidence:
    """Judge a run's outputs; the evidence that was written."""
    output = outputs.dataset.parent / "evidence"
    verdict = judge(
        config,
        LINEAGE,
        dataset=outputs.dataset,
        base=outputs.base,
        tuned=outputs.tuned,
        adapter=outputs.adapter,
        parity=outputs.parity,
        output=output,
    )
    evidence = read_evidence(output)
    json.loads((output / "evidence.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    assert evidence.verdict.verdict == verdict
    assert json.loads((output / "verdict.json").read_text()) == json.loads(evidence.verdict.model_dump_json())
    return evidence


def read_examples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("metric", ["loss", "exact_match", "token_f1", "rouge_l"])
def test_a_better_model_is_promoted_with_the_figures(tmp_path: Path, metric: Any) -> None:
    evidence = decide(write_outputs(tmp_path), GateConfig(metric=metric, min_gain=0.05))
    assert evidence.verdict.verdict == "promote"
    assert evidence.verdict.examples == 40
    assert evidence.verdict.gain is not None
    assert evidence.verdict.gain > 0.05
    assert f"{evidence.verdict.gain:.4g}" in evidence.verdict.reasons[0]


def test_the_evidence_holds_all_that_the_steps_found(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    evidence = decide(outputs)
    assert evidence.training == json.loads((outputs.adapter / "training.json").read_text())
    assert evidence.merge == json.loads((outputs.parity / "parity.json").read_text())
    assert evidence.mask == json.loads((outputs.adapter / "mask.json").read_text())
    assert evidence.data == json.loads((outputs.dataset / "report.json").read_text())
    assert evidence.lineage == LINEAGE
    assert len(evidence.examples) == 40
    assert all(example.base.answer == "the day of the month" for example in evidence.examples)


def test_the_same_findings_give_the_same_bytes(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    decide(outputs)
    first = (tmp_path / "evidence" / "evidence.json").read_bytes()
    decide(outputs)
    assert (tmp_path / "evidence" / "evidence.json").read_bytes() == first


def _swap_sides(o: Outputs) -> None:
    base, tuned = read_examples(o.base), read_examples(o.tuned)
    write_evaluation(o.base, tuned)
    write_evaluation(o.tuned, base)


def _other_examples(o: Outputs) -> None:
    write_evaluation(o.tuned, [{**e, "id": f"x{e['id']}"} for e in read_examples(o.tuned)])


def _few_examples(o: Outputs) -> None:
    write_evaluation(o.base, read_examples(o.base)[:12])
    write_evaluation(o.tuned, read_examples(o.tuned)[:12])


def _no_tuned(o: Outputs) -> None:
    (o.tuned / "metrics.json").unlink()


def _broken_json(o: Outputs) -> None:
    (o.parity / "parity.json").write_text('{"max_abs')


def _other_json(o: Outputs) -> None:
    (o.adapter / "mask.json").write_text("[1, 2]")
    (o.base / "examples.jsonl").write_text("7\n")


def _nan(o: Outputs) -> None:
    change(o.tuned / "metrics.json", exact_match=float("nan"))


def _null(o: Outputs) -> None:
    change(o.base / "metrics.json", exact_match=None)


def _embellished(o: Outputs) -> None:
    change(o.tuned / "metrics.json", exact_match=0.99)


def _parity(o: Outputs) -> None:
    change(o.parity / "parity.json", max_abs_logit_difference=0.7)


def _nan_parity(o: Outputs) -> None:
    change(o.parity / "parity.json", max_abs_logit_difference=float("nan"))


def _wrong_base(o: Outputs) -> None:
    change(o.adapter / "training.json", base_digest="a" * 64)


def _empty_mask(o: Outputs) -> None:
    change(o.adapter / "training.json", labelled_tokens=0)


def _empty_sample(o: Outputs) -> None:
    mask = json.loads((o.adapter / "mask.json").read_text())
    for token in mask["samples"][0]["tokens"]:
        token["loss"] = False
    change(o.adapter / "mask.json", **mask)


def _unknown_mask(o: Outputs) -> None:
    change(o.adapter / "training.json", labelled_tokens=None)


def _still_gradient(o: Outputs) -> None:
    history = json.loads((o.adapter / "training.json").read_text())["history"]
    change(o.adapter / "training.json", history=[{**p, "gradient_norm": 0.0} for p in history])


def _nan_loss(o: Outputs) -> None:
    history = json.loads((o.adapter / "training.json").read_text())["history"]
    history[4]["loss"] = None
    change(o.adapter / "training.json", history=history)


FAULTS: dict[Callable[[Outputs], None], str] = {
    _swap_sides: "exact match fell from 0.9 to 0: a gain of -0.9, not above gate.min_gain = 0.05",
    _other_examples: "not scored on the same examples: 40 only by the base, 40 only by the tuned model",
    _few_examples: "12 examples have a figure for exact match on both sides, fewer than gate.min_examples = 20",
    _no_tuned: "the tuned model's evaluation (metrics.json) is missing or unreadable",
    _broken_json: "the merge's report (parity.json) is missing or unreadable",
    _other_json: "the mask's sample (mask.json) is missing or unreadable",
    _nan: "the exact match of the tuned model is not a number",
    _null: "the exact match of the base is not a number",
    _embellished: "the exact match of the tuned model is stated as 0.99, but its examples give 0.9",
    _parity: "by up to 0.7 in a logit, more than the tolerance of 0.5",
    _nan_parity: "the merge was not compared",
    _wrong_base: "was trained on the base aaaaaaaaaaaa and merged into another, bbbbbbbbbbbb",
    _empty_mask: "no token carried loss in training: the mask is empty",
    _empty_sample: "no token carried loss in training: the mask is empty",
    _unknown_mask: "does not say how many tokens carried loss",
    _still_gradient: "the adapter's gradient never moved from zero in 180 steps",
    _nan_loss: "the training loss was not a number in 1 of 180 steps, first in 4",
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__.strip("_"))
def test_a_fault_is_a_reject_that_names_it(tmp_path: Path, plant: Callable[[Outputs], None]) -> None:
    outputs = write_outputs(tmp_path)
    plant(outputs)
    verdict = decide(outputs).verdict
    assert verdict.verdict == "reject"
    assert any(FAULTS[plant] in reason for reason in verdict.reasons), verdict.reasons


def test_a_sample_that_ends_before_its_answer_says_nothing(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    _empty_sample(outputs)
    mask = json.loads((outputs.adapter / "mask.json").read_text())
    mask["samples"][0]["length"] = 2000
    change(outputs.adapter / "mask.json", **mask)
    assert decide(outputs).verdict.verdict == "promote"


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for plant in (_swap_sides, _parity, _still_gradient):
        plant(outputs)
    assert len(decide(outputs).verdict.reasons) == 3


def test_a_gain_of_exactly_the_minimum_is_not_above_it(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    hits = {"base": 6, "tuned": 8}  # of 40: 0.2 - 0.15 is 0.05 and a rounding error
    for side, count in hits.items():
        examples = read_examples(tmp_path / side)
        for number, example in enumerate(examples):
            example["exact_match"] = float(number < count)
        write_evaluation(tmp_path / side, examples)
    assert decide(outputs).verdict.verdict == "reject"


def test_nothing_at_all_is_a_reject(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("dataset", "base", "tuned", "adapter", "merged", "parity")]
    verdict = decide(Outputs(*folders)).verdict
    assert verdict.verdict == "reject"
    assert verdict.gain is None
    assert len(verdict.reasons) == 8
