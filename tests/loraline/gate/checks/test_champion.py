"""A model that is worse than the champion by more than the margin is a reject."""

import shutil
from pathlib import Path

import pytest

from loraline.artifacts.evaluation import EXAMPLES, ChampionReport
from loraline.gate.config import GateConfig
from tests.loraline.gate.gate_runs import CONFIG, decide, named, write_matches
from tests.loraline.run_outputs import change, examples_of, remove_champion, write_evaluation, write_outputs


def test_the_champion_must_not_be_better_by_more_than_the_margin(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path, count=120)
    write_matches(outputs, 0, 90, champion=90)
    evidence = decide(outputs)
    assert evidence.verdict.verdict == "promote"
    assert "a difference of 0 (95% interval -0.03996 to 0.03996)" in named(evidence, "champion").detail
    write_matches(outputs, 0, 90, champion=120)
    evidence = decide(outputs)
    assert evidence.verdict.verdict == "reject"
    detail = named(evidence, "champion").detail
    assert "exact match fell from 1 to 0.75 on 120 held-out examples, a difference of -0.25" in detail
    assert "whose lower end is not above -gate.champion_margin = -0.05" in detail
    assert decide(outputs, CONFIG.model_copy(update={"champion_margin": 0.5})).verdict.verdict == "promote"


def test_no_champion_is_not_measured_and_passes(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    remove_champion(outputs.champion)
    evidence = decide(outputs)
    assert evidence.verdict.verdict == "promote"
    assert evidence.champion == ChampionReport(champion=None, evaluation=None)
    assert evidence.verdict.reasons[-1] == "champion not measured: there is no champion yet"
    assert {check.name: check.outcome for check in evidence.checks}["champion"] == "not measured"


@pytest.mark.parametrize("lost", [ChampionReport.FILE, EXAMPLES, "everything", "some examples"])
def test_a_champion_that_was_not_evaluated_is_a_reject(tmp_path: Path, lost: str) -> None:
    outputs = write_outputs(tmp_path)
    if lost == "everything":
        shutil.rmtree(outputs.champion)
    elif lost == "some examples":
        write_evaluation(outputs.champion, examples_of(outputs.champion)[25:])
    else:
        (outputs.champion / lost).unlink()
    evidence = decide(outputs)
    assert evidence.verdict.verdict == "reject"
    assert not named(evidence, "champion").passed
    assert named(evidence, "gain").passed


def test_a_champion_of_another_tokenizer_is_compared_by_the_text(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    before = decide(outputs, GateConfig(metric="loss")).comparison("champion", "loss")
    examples = [e.model_copy(update={"tokens": 3 * e.tokens}) for e in examples_of(outputs.champion)]
    write_evaluation(outputs.champion, examples)
    evaluation = ChampionReport.load(outputs.champion).evaluation
    assert evaluation is not None
    assert evaluation.loss is not None
    assert evaluation.loss < 0.5
    evidence = decide(outputs, GateConfig(metric="loss"))
    assert evidence.comparison("champion", "loss") == before
    assert "for each token of the tuned model" in named(evidence, "champion").detail


def test_examples_that_one_model_alone_has_are_left_out_and_counted(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    write_evaluation(outputs.champion, examples_of(outputs.champion)[:2:-1])
    evidence = decide(outputs, GateConfig(metric="loss"))
    assert named(evidence, "champion").passed, named(evidence, "champion").detail
    assert (
        "0 examples that only the champion was scored on, 3 that only the tuned" in named(evidence, "champion").detail
    )
    compared = evidence.comparison("champion", "loss")
    assert compared is not None
    assert compared.examples == 37


def test_a_margin_that_was_spent_is_not_given_again(tmp_path: Path) -> None:
    """Three promotions, each a little worse than the champion before it: the margin is 0.06 and not 0.06 each time."""
    outputs = write_outputs(tmp_path, count=400)
    config = CONFIG.model_copy(update={"champion_margin": 0.06})
    spent, verdicts = 0.0, []
    for champion, tuned in ((360, 352), (352, 344), (344, 336)):
        write_matches(outputs, 0, tuned, champion=champion)
        change(ChampionReport, outputs.champion, margin_spent={"exact_match": spent})
        evidence = decide(outputs, config)
        verdicts.append(evidence.verdict.verdict)
        assert evidence.verdict.margin_spent == pytest.approx(spent + 0.02)
        spent = evidence.verdict.margin_spent
    assert verdicts == ["promote", "reject", "reject"]
    assert "of which 0.04 is spent since the best champion" in named(evidence, "champion").detail


def test_a_better_model_earns_the_margin_back(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path, count=120)
    write_matches(outputs, 0, 110, champion=90)
    change(ChampionReport, outputs.champion, margin_spent={"exact_match": 0.04, "loss": 3.0})
    evidence = decide(outputs)
    assert evidence.verdict.verdict == "promote"
    assert evidence.verdict.margin_spent == 0
