"""Every way to go wrong is a reject that names it, and the twin without the fault passes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraline.gate.config import GateConfig
from tests.loraline.gate.judging import decide, examples_of, hits, load, named
from tests.loraline.run_outputs import LINEAGE, Outputs, change, remove_champion, write_evaluation, write_outputs


@pytest.mark.parametrize("metric", ["loss", "exact_match", "token_f1", "rouge_l"])
def test_a_better_model_is_promoted_with_the_figures(tmp_path: Path, metric: Any) -> None:
    verdict = decide(write_outputs(tmp_path), GateConfig(metric=metric, min_gain=0.05)).verdict
    assert verdict.verdict == "promote"
    assert verdict.examples == 40
    assert verdict.gain is not None
    assert verdict.lower is not None
    assert verdict.upper is not None
    assert verdict.p_value is not None
    assert 0.05 < verdict.lower < verdict.gain < verdict.upper
    gain, champion, forgetting, safety, merge = verdict.reasons
    assert f"a gain of {verdict.gain:.4g} (95% interval {verdict.lower:.4g} to {verdict.upper:.4g}" in gain
    assert f"p = {verdict.p_value:.2g}" in gain
    assert champion.startswith("against the champion, version 6")
    assert "on 30 general rows the loss went from 2.643 to 2.683, by +0.04" in forgetting
    assert "arc_easy (acc) went from 0.62 to 0.6" in forgetting
    assert "leaks 0, refusals of what must be refused 1" in safety
    assert "within 0.0021 in any logit" in merge


def test_the_evidence_holds_all_that_the_steps_found(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    evidence = decide(outputs)
    assert evidence.training == load(outputs.adapter / "training.json")
    assert evidence.merge == load(outputs.parity / "parity.json")
    assert evidence.mask == load(outputs.adapter / "mask.json")
    assert evidence.data == load(outputs.dataset / "report.json")
    assert evidence.champion == {**load(outputs.champion / "metrics.json"), "version": "6"}
    assert evidence.lineage == LINEAGE
    assert len(evidence.examples) == 40
    assert all(example.base.answer == "the day of the month" for example in evidence.examples)
    assert sum(example.champion is not None for example in evidence.examples) == 40
    assert evidence.forgetting is not None
    assert evidence.forgetting.difference == pytest.approx(0.04)
    assert evidence.safety is not None
    door, gate = evidence.safety.probes[:2]
    assert (door.base, door.base_refused, door.tuned_refused) == ("I can't do that.", True, True)
    assert (gate.base, gate.base_refused, gate.tuned_refused) == ("Yes, gladly.", False, True)
    against = [(one.against, one.metric) for one in evidence.comparisons]
    metrics = ("loss", "exact_match", "token_f1", "rouge_l")
    assert against == [(side, metric) for side in ("base", "champion") for metric in metrics]
    assert evidence.comparison("base", "exact_match").test == "mcnemar"
    assert evidence.comparison("champion", "loss").test == "sign"


def test_the_same_findings_give_the_same_bytes(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    decide(outputs)
    first = (tmp_path / "evidence" / "evidence.json").read_bytes()
    decide(outputs)
    assert (tmp_path / "evidence" / "evidence.json").read_bytes() == first


def swap_sides(o: Outputs) -> None:
    base, tuned = examples_of(o.base), examples_of(o.tuned)
    write_evaluation(o.base, tuned)
    write_evaluation(o.tuned, base)


def equal_model(o: Outputs) -> None:
    write_evaluation(o.tuned, examples_of(o.base))


def other_examples(o: Outputs) -> None:
    write_evaluation(o.tuned, [{**e, "id": f"x{e['id']}"} for e in examples_of(o.tuned)])


def other_order(o: Outputs) -> None:
    write_evaluation(o.tuned, examples_of(o.tuned)[::-1])


def repeated_example(o: Outputs) -> None:
    write_evaluation(o.tuned, examples_of(o.tuned)[:-1] + examples_of(o.tuned)[:1])


def few_examples(o: Outputs) -> None:
    for side in (o.base, o.tuned, o.champion):
        write_evaluation(side, examples_of(side)[:12])


def no_tuned(o: Outputs) -> None:
    (o.tuned / "metrics.json").unlink()


def broken_json(o: Outputs) -> None:
    (o.parity / "parity.json").write_text('{"max_abs')


def other_json(o: Outputs) -> None:
    (o.adapter / "mask.json").write_text("[1, 2]")
    (o.base / "examples.jsonl").write_text("7\n")


def other_shape(o: Outputs) -> None:
    change(o.adapter / "mask.json", samples=[3])


def words_for_figures(o: Outputs) -> None:
    examples = examples_of(o.base)
    examples[3]["loss"] = "low"
    (o.base / "examples.jsonl").write_text("\n".join(map(json.dumps, examples)))


def nan_figure(o: Outputs) -> None:
    change(o.tuned / "metrics.json", exact_match=float("nan"))


def null_figure(o: Outputs) -> None:
    change(o.base / "metrics.json", exact_match=None)


def nan_example(o: Outputs) -> None:
    examples = examples_of(o.tuned)
    examples[5]["loss"] = float("nan")
    (o.tuned / "examples.jsonl").write_text("\n".join(map(json.dumps, examples)))


def one_sided_example(o: Outputs) -> None:
    examples = examples_of(o.tuned)
    examples[5]["exact_match"] = None
    (o.tuned / "examples.jsonl").write_text("\n".join(map(json.dumps, examples)))


def other_tokens(o: Outputs) -> None:
    write_evaluation(o.base, [{**e, "tokens": e["tokens"] + 1} for e in examples_of(o.base)])


def embellished(o: Outputs) -> None:
    change(o.tuned / "metrics.json", exact_match=0.99)


def embellished_elsewhere(o: Outputs) -> None:
    change(o.base / "metrics.json", rouge_l=0.1)


def no_rows(o: Outputs) -> None:
    report = load(o.dataset / "report.json")
    change(o.dataset / "report.json", rows={**report["rows"], "train": 0})


def empty_mask(o: Outputs) -> None:
    change(o.adapter / "training.json", labelled_tokens=0)


def empty_sample(o: Outputs) -> None:
    mask = load(o.adapter / "mask.json")
    for token in mask["samples"][0]["tokens"]:
        token["loss"] = False
    change(o.adapter / "mask.json", **mask)


def unknown_mask(o: Outputs) -> None:
    change(o.adapter / "training.json", labelled_tokens=None)


def still_gradient(o: Outputs) -> None:
    history = load(o.adapter / "training.json")["history"]
    change(o.adapter / "training.json", history=[{**p, "gradient_norm": 0.0} for p in history])


def nan_loss(o: Outputs) -> None:
    history = load(o.adapter / "training.json")["history"]
    history[4]["loss"] = None
    change(o.adapter / "training.json", history=history)


def no_step(o: Outputs) -> None:
    change(o.adapter / "training.json", history=[{"step": 0, "eval_loss": 2.0}])


FAULTS: dict[Callable[[Outputs], None], tuple[str, str]] = {
    swap_sides: ("gain", "exact match fell from 0.9 to 0 on 40 held-out examples: a gain of -0.9 (95% interval -0.975"),
    equal_model: ("gain", "a gain of 0 (95% interval 0 to 0; 0 won, 0 lost, 40 even"),
    other_examples: ("gain", "not scored on the same examples: 40 only by the base, 40 only by the tuned model"),
    other_order: ("gain", "base and tuned were not scored on the examples in the same order"),
    repeated_example: ("gain", "1 examples of base and tuned stand there twice (cfcd208495d565ef66e7dff9f98764da)"),
    few_examples: (
        "gain",
        "12 examples have a figure for exact match on both sides, fewer than gate.min_examples = 20",
    ),
    no_tuned: ("completeness", "the tuned model's evaluation (metrics.json) is missing or unreadable"),
    broken_json: ("completeness", "the merge's report (parity.json) is missing or unreadable"),
    other_json: ("completeness", "the mask's sample (mask.json) is missing or unreadable"),
    other_shape: ("mask", "cannot be told: a report has another shape"),
    words_for_figures: (
        "completeness",
        "the list of scored examples (examples.jsonl) of base or tuned model is missing",
    ),
    nan_figure: ("gain", "the exact match of the tuned model is not a number"),
    null_figure: ("gain", "the exact match of the base is not a number"),
    nan_example: ("gain", "the loss of the tuned model is not a number on 1 examples"),
    one_sided_example: ("gain", "1 examples have a figure for exact match on one side only"),
    other_tokens: ("gain", "40 examples have other labelled tokens for the base than for tuned"),
    embellished: ("gain", "the exact match of the tuned model is stated as 0.99, but its examples give 0.9"),
    embellished_elsewhere: ("gain", "the ROUGE-L of the base is stated as 0.1, but its examples give 0.5"),
    no_rows: ("data", "the dataset has no rows to train on"),
    empty_mask: ("mask", "no token carried loss in training: the mask is empty"),
    empty_sample: ("mask", "no token carried loss in training: the mask is empty"),
    unknown_mask: ("mask", "does not say how many tokens carried loss"),
    still_gradient: ("training", "the adapter's gradient never moved from zero in 180 steps"),
    nan_loss: ("training", "the training loss was not a number in 1 of 180 steps, first in 4"),
    no_step: ("training", "training took no step"),
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_fault_is_a_reject_that_names_it(tmp_path: Path, plant: Callable[[Outputs], None]) -> None:
    outputs = write_outputs(tmp_path)
    plant(outputs)
    evidence = decide(outputs)
    name, words = FAULTS[plant]
    assert evidence.verdict.verdict == "reject"
    assert words in named(evidence, name).detail
    assert not named(evidence, name).passed
    assert evidence.verdict.reasons == [check.detail for check in evidence.checks if not check.passed]


def test_a_sample_that_ends_before_its_answer_says_nothing(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    empty_sample(outputs)
    mask = load(outputs.adapter / "mask.json")
    mask["samples"][0]["length"] = 2000
    change(outputs.adapter / "mask.json", **mask)
    assert decide(outputs).verdict.verdict == "promote"


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for plant in (swap_sides, no_rows, still_gradient):
        plant(outputs)
    failed = [check.name for check in decide(outputs).checks if not check.passed]
    assert failed == ["data", "training", "gain", "champion"]


def test_nothing_at_all_is_a_reject(tmp_path: Path) -> None:
    evidence = decide(Outputs(*[tmp_path / "nothing"] * 7), lineage={}, policy=None)
    assert evidence.verdict.verdict == "reject"
    assert evidence.verdict.gain is None
    assert evidence.comparisons == []
    assert named(evidence, "completeness").detail.count("is missing or unreadable") == 8
    assert [check.name for check in evidence.checks if check.passed] == ["forgetting", "safety"]


@pytest.mark.parametrize(
    ("base", "tuned", "verdict", "words"),
    [
        (4, 4, "reject", "whose lower end is not above gate.min_gain = 0"),
        (4, 5, "reject", "whose lower end is not above gate.min_gain = 0"),
        (4, 9, "reject", "5 won and 0 lost can be chance, p must be at most 0.05"),
        (4, 10, "promote", "whose lower end is above gate.min_gain = 0"),
        (10, 4, "reject", "whose lower end is not above gate.min_gain = 0"),
    ],
)
def test_only_a_gain_beyond_chance_is_one(tmp_path: Path, base: int, tuned: int, verdict: str, words: str) -> None:
    outputs = write_outputs(tmp_path)
    hits(outputs, base, tuned)
    remove_champion(outputs.champion)
    evidence = decide(outputs, GateConfig(metric="exact_match"))
    assert evidence.verdict.verdict == verdict
    assert words in named(evidence, "gain").detail


def test_a_few_examples_that_differ_are_too_few_whatever_the_metric(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for number, verdict in ((5, "reject"), (6, "promote")):
        examples = examples_of(outputs.base)
        for example in examples[:number]:
            example["token_f1"] = 1.0
        write_evaluation(outputs.tuned, examples)
        remove_champion(outputs.champion)
        evidence = decide(outputs, GateConfig(metric="token_f1"))
        assert evidence.verdict.verdict == verdict, evidence.verdict.reasons
    assert evidence.verdict.lower is not None
    assert evidence.verdict.lower > 0


def test_the_whole_interval_must_be_above_the_minimum(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    lower = decide(outputs, GateConfig(metric="loss")).verdict.lower
    assert lower is not None
    assert decide(outputs, GateConfig(metric="loss", min_gain=lower * 0.999)).verdict.verdict == "promote"
    assert decide(outputs, GateConfig(metric="loss", min_gain=lower)).verdict.verdict == "reject"
    wider = GateConfig(metric="loss", min_gain=lower * 0.999, confidence=0.99)
    assert decide(outputs, wider).verdict.verdict == "reject"
