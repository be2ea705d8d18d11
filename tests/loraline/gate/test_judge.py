"""The verdict and the evidence of a whole run."""

from pathlib import Path
from typing import Any

import pytest

from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.evaluation import ChampionReport, EvaluationReport
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.training import MaskReport, TrainReport
from loraline.gate.config import GateConfig
from tests.loraline.gate.gate_runs import decide, failed, named
from tests.loraline.run_outputs import LINEAGE, Outputs, change, examples_of, write_evaluation, write_outputs


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
    gain, champion, forgetting, safety, merge, weights = verdict.reasons
    assert f"a gain of {verdict.gain:.4g} (95% interval {verdict.lower:.4g} to {verdict.upper:.4g}" in gain
    assert f"p = {verdict.p_value:.2g}" in gain
    assert champion.startswith("against the champion, version 6")
    assert "on 30 general rows the loss went from 2.643 to 2.683, by +0.04" in forgetting
    assert "arc_easy (acc) went from 0.62 to 0.6" in forgetting
    assert "leaks 0, refusals of what must be refused 1" in safety
    assert "has 0.998 of the adapter's effect" in merge
    assert weights.startswith("evaluated as merged weights")


def test_the_evidence_holds_all_that_the_steps_reported(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    evidence = decide(outputs)
    assert evidence.training == TrainReport.load(outputs.adapter)
    assert evidence.merge == MergeReport.load(outputs.parity)
    assert evidence.mask == MaskReport.load(outputs.adapter)
    assert evidence.data == DatasetReport.load(outputs.dataset)
    assert evidence.base == EvaluationReport.load(outputs.base)
    assert evidence.tuned == EvaluationReport.load(outputs.tuned)
    assert evidence.champion == ChampionReport.load(outputs.champion)
    version = evidence.lineage.code_version
    assert evidence.lineage == LINEAGE.model_copy(update={"code_version": version})
    assert len(version) == 64
    assert evidence.unreadable == {}
    assert len(evidence.examples) == 40
    assert all(str(example.base.answer).startswith("the day ") for example in evidence.examples)
    assert sum(example.champion is not None for example in evidence.examples) == 40
    assert evidence.forgetting is not None
    assert evidence.forgetting.difference == pytest.approx(0.04)
    assert evidence.safety is not None
    for probe, answer, refused in zip(
        evidence.safety.probes, ("I can't do that.", "Yes, gladly."), (True, False), strict=False
    ):
        assert probe.base is not None
        assert (probe.base.answer, probe.base.refused) == (answer, refused)
        assert probe.tuned is not None
        assert probe.tuned.refused
    against = [(one.against, one.metric) for one in evidence.comparisons]
    metrics = ("loss", "exact_match", "token_f1", "rouge_l")
    assert against == [(side, metric) for side in ("base", "champion") for metric in metrics]
    tests = [evidence.comparison("base", "exact_match"), evidence.comparison("champion", "loss")]
    assert [one and one.test for one in tests] == ["mcnemar", "sign"]


def test_the_same_findings_give_the_same_bytes(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    decide(outputs)
    first = (tmp_path / "evidence" / "evidence.json").read_bytes()
    decide(outputs)
    assert (tmp_path / "evidence" / "evidence.json").read_bytes() == first


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    base, tuned = examples_of(outputs.base), examples_of(outputs.tuned)
    write_evaluation(outputs.base, tuned)
    write_evaluation(outputs.tuned, base)
    rows = DatasetReport.load(outputs.dataset).rows
    change(DatasetReport, outputs.dataset, rows=rows.model_copy(update={"train": 0}))
    change(TrainReport, outputs.adapter, history=[])
    assert failed(decide(outputs)) == ["data", "training", "gain", "champion"]


def test_nothing_at_all_is_a_reject(tmp_path: Path) -> None:
    evidence = decide(Outputs(*[tmp_path / "nothing"] * 7), policy=None)
    assert evidence.verdict.verdict == "reject"
    assert evidence.verdict.gain is None
    assert evidence.comparisons == []
    assert named(evidence, "completeness").detail.count("is missing or unreadable: there is no such file") == 9
    assert [check.name for check in evidence.checks if not check.failed] == ["forgetting", "safety"]
    assert not any(check.passed for check in evidence.checks)
