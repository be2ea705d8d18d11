"""No gain over the base, a gain by chance, and figures that their examples do not give are a reject."""

from collections.abc import Callable
from pathlib import Path

import pytest

from loraline.artifacts.evaluation import EvaluationReport
from loraline.gate.config import GateConfig
from tests.loraline.gate.gate_runs import assert_rejected, decide, named, replaced, write_matches
from tests.loraline.run_outputs import Outputs, change, examples_of, remove_champion, write_evaluation, write_outputs


def swap_sides(o: Outputs) -> None:
    base, tuned = examples_of(o.base), examples_of(o.tuned)
    write_evaluation(o.base, tuned)
    write_evaluation(o.tuned, base)


def equal_model(o: Outputs) -> None:
    write_evaluation(o.tuned, examples_of(o.base))


def other_examples(o: Outputs) -> None:
    write_evaluation(o.tuned, [e.model_copy(update={"id": f"x{e.id}"}) for e in examples_of(o.tuned)])


def other_order(o: Outputs) -> None:
    write_evaluation(o.tuned, examples_of(o.tuned)[::-1])


def repeated_example(o: Outputs) -> None:
    write_evaluation(o.tuned, examples_of(o.tuned)[:-1] + examples_of(o.tuned)[:1])


def few_examples(o: Outputs) -> None:
    for folder in (o.base, o.tuned, o.champion):
        write_evaluation(folder, examples_of(folder)[:12])


def nan_figure(o: Outputs) -> None:
    change(EvaluationReport, o.tuned, exact_match=float("nan"))


def null_figure(o: Outputs) -> None:
    change(EvaluationReport, o.base, exact_match=None)


def nan_example(o: Outputs) -> None:
    stated = EvaluationReport.load(o.tuned)
    write_evaluation(o.tuned, replaced(examples_of(o.tuned), 5, loss=float("nan")))
    stated.save(o.tuned)


def one_sided_example(o: Outputs) -> None:
    stated = EvaluationReport.load(o.tuned)
    write_evaluation(o.tuned, replaced(examples_of(o.tuned), 5, exact_match=None))
    stated.save(o.tuned)


def other_tokens(o: Outputs) -> None:
    write_evaluation(o.base, [e.model_copy(update={"tokens": e.tokens + 1}) for e in examples_of(o.base)])


def embellished(o: Outputs) -> None:
    change(EvaluationReport, o.tuned, exact_match=0.99)


def embellished_elsewhere(o: Outputs) -> None:
    change(EvaluationReport, o.base, rouge_l=0.1)


ALSO = {
    swap_sides: ("champion",),
    equal_model: ("champion",),
    other_examples: ("champion", "template", "answers", "completeness"),
    repeated_example: ("champion",),
    few_examples: ("champion",),
    nan_figure: ("champion",),
    nan_example: ("champion",),
    one_sided_example: ("champion",),
    embellished: ("champion",),
}
FAULTS: dict[Callable[[Outputs], None], str] = {
    swap_sides: "exact match fell from 0.9 to 0 on 40 held-out examples: a gain of -0.9 (95% interval -1 to -0.6",
    equal_model: "a gain of 0 (95% interval -0.1141 to 0.1141; 0 won, 0 lost, 40 even",
    other_examples: "not scored on the same examples: 40 only by the base, 40 only by the tuned model",
    other_order: "base and tuned were not scored on the examples in the same order",
    repeated_example: "1 examples of base and tuned occur more than once (cfcd208495d565ef66e7dff9f98764da)",
    few_examples: "12 examples have a figure for exact match on both sides, fewer than gate.min_examples = 20",
    nan_figure: "the exact match of the tuned model is not a number",
    null_figure: "the exact match of the base is not a number",
    nan_example: "the loss of the tuned model is not a number on 1 examples",
    one_sided_example: "1 examples have a figure for exact match on one side only",
    other_tokens: "40 examples have other labelled tokens for the base than for tuned",
    embellished: "the exact match of the tuned model is stated as 0.99, but its examples give 0.9",
    embellished_elsewhere: "the ROUGE-L of the base is stated as 0.1, but its examples give 0.5",
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_gain_that_does_not_count(tmp_path: Path, plant: Callable[[Outputs], None]) -> None:
    outputs = write_outputs(tmp_path)
    plant(outputs)
    assert_rejected(outputs, "gain", FAULTS[plant], also=ALSO.get(plant, ()))


@pytest.mark.parametrize(
    ("base", "tuned", "verdict", "words"),
    [
        (4, 4, "reject", "whose lower end is not above gate.min_gain = 0"),
        (4, 5, "reject", "whose lower end is not above gate.min_gain = 0"),
        (4, 9, "reject", "whose lower end is not above gate.min_gain = 0"),
        (4, 11, "promote", "whose lower end is above gate.min_gain = 0"),
        (10, 4, "reject", "whose lower end is not above gate.min_gain = 0"),
    ],
)
def test_only_a_gain_beyond_chance_is_one(tmp_path: Path, base: int, tuned: int, verdict: str, words: str) -> None:
    outputs = write_outputs(tmp_path)
    write_matches(outputs, base, tuned)
    remove_champion(outputs.champion)
    evidence = decide(outputs, GateConfig(metric="exact_match"))
    assert evidence.verdict.verdict == verdict
    assert words in named(evidence, "gain").detail


def test_a_few_examples_that_differ_are_too_few_whatever_the_metric(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for number, verdict in ((6, "reject"), (20, "promote")):
        examples = examples_of(outputs.base)
        better = [example.model_copy(update={"token_f1": 1.0}) for example in examples[:number]]
        write_evaluation(outputs.tuned, better + examples[number:])
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
