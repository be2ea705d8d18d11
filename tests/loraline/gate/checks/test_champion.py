"""A model that is worse than the champion by more than the margin is a reject."""

import shutil
from pathlib import Path

import pytest

from loraline.artifacts.evaluation import EXAMPLES, ChampionReport
from loraline.gate.config import GateConfig
from tests.loraline.gate.gate_runs import CONFIG, decide, named, write_matches
from tests.loraline.run_outputs import examples_of, remove_champion, write_evaluation, write_outputs


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
        write_evaluation(outputs.champion, examples_of(outputs.champion)[3:])
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
