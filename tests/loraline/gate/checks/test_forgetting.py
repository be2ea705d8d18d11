"""What the base knew must not be lost, on a general set and on tasks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraline.artifacts.evaluation import GENERAL, EvaluationReport, GeneralReport, TaskReport
from loraline.report.markdown import run_summary
from loraline.report.model_card import render_model_card
from loraline.report.run_page import render_run_page
from tests.loraline.gate.gate_runs import assert_rejected, decide, named
from tests.loraline.run_outputs import LINEAGE, Outputs, change, tasks, write_general, write_outputs


def general(losses: list[float], **more: Any) -> Callable[[Outputs], None]:
    return lambda o: write_general(o.tuned, losses, **more)


def test_the_loss_on_the_general_set_has_a_threshold(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    base = [2.5 + 0.1 * (i % 4) for i in range(30)]
    # The mean rises by 0.07, within the threshold; its interval's upper end does not stay there.
    write_general(outputs.tuned, [loss + 0.07 + (0.3 if i % 2 else -0.3) for i, loss in enumerate(base)])
    evidence = decide(outputs)
    assert evidence.forgetting is not None
    assert evidence.forgetting.difference == pytest.approx(0.07)
    assert evidence.forgetting.upper is not None
    assert evidence.forgetting.upper > 0.1
    assert "whose upper end is above gate.max_forgetting = 0.1" in named(evidence, "forgetting").detail
    write_general(outputs.tuned, [loss + 0.07 for loss in base])
    assert decide(outputs).verdict.verdict == "promote"


def too_few(o: Outputs) -> None:
    for side in (o.base, o.tuned):
        write_general(side, [2.5] * 8)


def embellished(o: Outputs) -> None:
    change(EvaluationReport, o.tuned, general=GeneralReport(loss=2.6, tokens=360, examples=30, left_out=[]))


FAULTS: dict[str, tuple[Callable[[Outputs], None], str]] = {
    "too few": (too_few, "8 general rows have a loss on both sides, fewer than gate.min_examples = 20"),
    "other rows": (general([2.5] * 29), "not scored on the same general rows: 1 only by the base"),
    "other tokens": (general([2.5] * 30, tokens=11), "another number of tokens on each"),
    "one side": (
        lambda o: change(EvaluationReport, o.tuned, general=None),
        "the loss of the tuned model on the general set is missing or not a number",
    ),
    "embellished": (
        embellished,
        "the loss of the tuned model on the general set is stated as 2.6, but its rows give 2.68333",
    ),
    "task": (
        lambda o: change(EvaluationReport, o.tuned, tasks=tasks(0.5)),
        "arc_easy (acc) went from 0.62 to 0.5, worse by 0.12 (95% interval 0.08019 to 0.1802 over 300 examples), "
        "whose upper end is above gate.max_task_drop = 0.05",
    ),
    "task gone": (
        lambda o: change(EvaluationReport, o.tuned, tasks={}),
        "the task arc_easy has no figure for its main metric of the tuned model",
    ),
    "task not a number": (
        lambda o: change(EvaluationReport, o.base, tasks=tasks(float("nan"))),
        "the task arc_easy has no figure for its main metric of the base",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_forgetting_is_a_reject(tmp_path: Path, fault: str) -> None:
    outputs = write_outputs(tmp_path)
    plant, words = FAULTS[fault]
    plant(outputs)
    assert_rejected(outputs, "forgetting", words)


def test_a_task_whose_lower_is_better_may_not_rise(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for side, value in ((outputs.base, 0.4), (outputs.tuned, 0.5)):
        values = {"bits_per_byte": value}
        task = TaskReport(metric="bits_per_byte", higher_is_better=False, values=values, stderr=0.001, examples=9)
        change(EvaluationReport, side, tasks={"wikitext": task})
    assert_rejected(
        outputs,
        "forgetting",
        "worse by 0.1 (95% interval 0.09723 to 0.1028), whose upper end is above gate.max_task_drop",
    )


def test_a_task_may_drop_by_as_much_as_its_examples_can_show(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for examples, outcome in ((80, False), (300, True)):
        for side in (outputs.base, outputs.tuned):
            change(EvaluationReport, side, tasks=tasks(0.6, examples))
        evidence = decide(outputs)
        assert named(evidence, "forgetting").passed == outcome, named(evidence, "forgetting").detail
        assert f"over {examples} examples" in named(evidence, "forgetting").detail


def test_tasks_are_compared_on_the_examples_that_both_have(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    [whole] = tasks(0.6).values()
    part = dict(list(whole.scores.items())[:-40])
    change(EvaluationReport, outputs.base, tasks={"arc_easy": whole})
    change(EvaluationReport, outputs.tuned, tasks={"arc_easy": whole.model_copy(update={"scores": part})})
    evidence = decide(outputs)
    assert "over 260 examples, 40 more of one model alone" in named(evidence, "forgetting").detail
    few = dict(list(whole.scores.items())[:10])
    change(EvaluationReport, outputs.tuned, tasks={"arc_easy": whole.model_copy(update={"scores": few})})
    assert_rejected(outputs, "forgetting", "10 examples of the task arc_easy have a score of both models, fewer than")


def test_a_task_without_scores_or_standard_errors_proves_nothing(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for side in (outputs.base, outputs.tuned):
        values = {"mcc": 0.5}
        task = TaskReport(metric="mcc", higher_is_better=True, values=values, stderr=None, examples=400)
        change(EvaluationReport, side, tasks={"cola": task})
    assert_rejected(outputs, "forgetting", "its main metric is no mean over examples and has no standard error")


def unmeasured(outputs: Outputs) -> None:
    for side in (outputs.base, outputs.tuned):
        change(EvaluationReport, side, general=None, tasks={})
        (side / GENERAL).unlink()


def test_forgetting_that_is_switched_off_is_not_measured_and_never_shown_as_passed(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    unmeasured(outputs)
    evidence = decide(outputs)
    assert evidence.verdict.verdict == "promote"
    assert evidence.forgetting is None
    words = "forgetting not measured: switched off by data.general_source, which is empty"
    assert named(evidence, "forgetting").outcome == "not measured"
    assert named(evidence, "forgetting").detail.startswith(words)
    assert not named(evidence, "forgetting").passed
    assert evidence.verdict.not_measured == ["forgetting"]
    assert any(reason.startswith(words) for reason in evidence.verdict.reasons)
    page, card, summary = render_run_page(evidence), render_model_card(evidence), run_summary(evidence)
    assert page.count("&#8211; not measured") == 2  # among the checks, and in its own section
    assert page.count(words) == 3  # and among the reasons
    assert words[1:] in card
    assert "| forgetting | not measured |" in card
    assert "| forgetting | not measured |" in summary


def test_tasks_alone_are_measured_and_rows_are_said_to_be_switched_off(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for side in (outputs.base, outputs.tuned):
        change(EvaluationReport, side, general=None)
        (side / GENERAL).unlink()
    check = named(decide(outputs), "forgetting")
    assert check.passed
    assert "on rows not measured: switched off by data.general_source" in check.detail


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"general_source": "general.jsonl"}, "0 general rows have a loss on both sides"),
        ({"tasks": ["arc_easy"]}, "neither side has figures of any"),
    ],
)
def test_forgetting_that_was_asked_for_must_be_measured(tmp_path: Path, asked: dict[str, Any], words: str) -> None:
    outputs = write_outputs(tmp_path)
    unmeasured(outputs)
    assert_rejected(outputs, "forgetting", words, lineage=LINEAGE.model_copy(update=asked))
