"""The check that answers are not empty, endless or all alike, whatever the metric says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraline.artifacts.evaluation import ScoredExample
from loraline.gate.config import GateConfig
from tests.loraline.gate.gate_runs import decide, named
from tests.loraline.run_outputs import Outputs, examples_of, write_evaluation, write_outputs

BY_LOSS = GateConfig(min_examples=20)


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return write_outputs(tmp_path)


def rewrite(folder: Path, fields: Callable[[int, ScoredExample], dict[str, Any]]) -> None:
    """Change an evaluation's examples: their answers and references, and no loss."""
    examples = enumerate(examples_of(folder))
    write_evaluation(folder, [example.model_copy(update=fields(number, example)) for number, example in examples])


def label_with(outputs: Outputs, tuned: Callable[[int], str], reference: Callable[[int], str]) -> None:
    """Give the run a classification: short references, and short answers of the tuned model."""
    for folder in (outputs.base, outputs.tuned, outputs.champion):
        rewrite(folder, lambda number, _: {"reference": reference(number)})
    rewrite(outputs.tuned, lambda number, _: {"answer": tuned(number)})


def test_honest_answers_pass_with_their_figures(outputs: Outputs) -> None:
    detail = named(decide(outputs, config=BY_LOSS), "answers").detail
    assert detail == "of 40 answers 0 are empty, 0 endless (base: 0), 10 distinct (references and prompts: 10)"


@pytest.mark.parametrize(("empty", "outcome"), [(8, "passed"), (9, "failed")])
def test_empty_answers_are_a_reject_though_the_loss_fell(outputs: Outputs, empty: int, outcome: str) -> None:
    rewrite(outputs.tuned, lambda number, one: {"answer": "" if number < empty else one.answer})
    evidence = decide(outputs, config=BY_LOSS)
    assert named(evidence, "answers").outcome == outcome
    assert named(evidence, "gain").passed
    assert ("9 of 40 answers are empty" in named(evidence, "answers").detail) == (outcome == "failed")


@pytest.mark.parametrize(
    ("tuned", "base", "outcome"),
    [(8, 0, "passed"), (9, 0, "failed"), (18, 40, "passed"), (21, 40, "failed"), (40, 40, "failed")],
)
def test_answers_must_end_where_their_references_do(outputs: Outputs, tuned: int, base: int, outcome: str) -> None:
    rewrite(outputs.tuned, lambda number, _: {"endless": number < tuned})
    rewrite(outputs.base, lambda number, _: {"endless": number < base})
    check = named(decide(outputs, config=BY_LOSS), "answers")
    assert check.outcome == outcome
    assert (f"{tuned} of 40 answers had not ended" in check.detail) == (outcome == "failed")


def test_one_answer_to_everything_is_a_reject(outputs: Outputs) -> None:
    rewrite(outputs.tuned, lambda *_: {"answer": "the day"})
    detail = named(decide(outputs, config=BY_LOSS), "answers").detail
    assert "the answers are all alike: 1 distinct ones of 40" in detail
    assert "40 are 'the day'" in detail


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        (lambda n: "yes" if n % 2 else "no", lambda n: "yes" if n % 2 else "no", "passed"),
        (lambda n: "yes" if n % 3 else "no", lambda n: "yes" if n % 2 else "no", "passed"),
        (lambda n: "yes", lambda n: "yes" if n % 2 else "no", "failed"),
        (lambda n: "yes", lambda n: "no" if n < 4 else "yes", "passed"),  # nine in ten are: nothing to tell them by
        (lambda n: "yes", lambda n: "yes", "passed"),
    ],
    ids=["right", "partly right", "one label for two", "a rare label", "one label"],
)
def test_labels_are_compared_with_the_labels_of_the_references(
    outputs: Outputs, answer: Callable[[int], str], reference: Callable[[int], str], outcome: str
) -> None:
    label_with(outputs, answer, reference)
    assert named(decide(outputs, config=BY_LOSS), "answers").outcome == outcome


def test_one_prompt_has_one_answer(outputs: Outputs) -> None:
    for folder in (outputs.base, outputs.tuned, outputs.champion):
        rewrite(folder, lambda number, _: {"prompt": "Write a poem.", "reference": f"poem {number}"})
    rewrite(outputs.tuned, lambda *_: {"answer": "roses are red"})
    assert named(decide(outputs, config=BY_LOSS), "answers").passed


def test_plain_text_has_no_answers(outputs: Outputs) -> None:
    for folder in (outputs.base, outputs.tuned, outputs.champion):
        rewrite(folder, lambda *_: dict.fromkeys(("prompt", "reference", "answer", "endless", "prompt_digest")))
    assert named(decide(outputs, config=BY_LOSS), "answers").outcome == "not measured"


@pytest.mark.parametrize(("limit", "outcome"), [(0.5, "failed"), (1.0, "passed")])
def test_a_larger_limit_asks_for_less(outputs: Outputs, limit: float, outcome: str) -> None:
    rewrite(outputs.tuned, lambda *_: {"answer": "yes", "endless": True})
    config = BY_LOSS.model_copy(update={"max_degenerate": limit})
    assert named(decide(outputs, config=config), "answers").outcome == outcome
