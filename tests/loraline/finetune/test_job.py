"""A whole job from Python: its phases, what they keep, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from loraline import AdapterError, ConfigurationError, FineTune
from loraline.training import train as training
from tests import tiny
from tests.loraline.finetune.conftest import SETTINGS, rows


def losses(history: list[dict[str, float]]) -> list[float]:
    return [figures["loss"] for figures in history if "loss" in figures]


def test_five_lines_do_the_whole_job(job: FineTune, tmp_path: Path) -> None:
    trained = job.train(rank=2)
    result = job.evaluate()
    merged = job.merge(tmp_path / "out")
    answer = job.generate("say 1", max_new_tokens=4)

    assert trained.report.steps > 1
    assert job.adapter == trained.adapter
    assert json.loads((trained.adapter / "adapter_config.json").read_text())["r"] == 2
    assert result.tuned is not None
    assert result.tuned.loss != result.base.loss
    assert "held-out examples" in str(result)
    assert merged.report.examples == 2
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.vocab_size == tiny.VOCABULARY
    assert isinstance(answer, str)


def test_the_report_makes_what_is_missing_and_says_the_verdict(job: FineTune, tmp_path: Path) -> None:
    job.train()
    page = job.report(min_examples=21)
    assert page.verdict in ("promote", "reject")
    assert page.reasons
    assert page.evidence.merge is not None, "the merge was made for the report"
    assert page.evidence.thresholds is not None
    assert page.evidence.thresholds.min_examples == 21
    assert str(page).startswith(page.verdict)
    assert page._repr_html_().startswith("<iframe srcdoc=")
    assert page.save(tmp_path / "new" / "page.html").read_text().lower().startswith("<!doctype html>")
    assert not [check for check in page.evidence.checks if check.name == "completeness" and check.failed]


def test_the_same_settings_are_not_computed_twice(
    job: FineTune, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other = job.train(), job.train(rank=2)
    written = (first.adapter / "adapter_model.safetensors").stat().st_mtime_ns
    again = FineTune(base, rows(), folder=tmp_path / "work", **SETTINGS)
    capsys.readouterr()
    assert again.train().adapter == first.adapter != other.adapter
    assert (first.adapter / "adapter_model.safetensors").stat().st_mtime_ns == written
    assert capsys.readouterr().err.split()[:2] == ["train", "reused"]


def test_other_rows_are_another_training(job: FineTune, base: Path, tmp_path: Path) -> None:
    first = job.train().adapter
    assert FineTune(base, rows(41), folder=tmp_path / "work", **SETTINGS).train().adapter != first


def test_an_interrupted_training_resumes_from_its_checkpoint(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = FineTune(base, rows(), folder=tmp_path / "undisturbed", **SETTINGS).train(epochs=3)
    job = FineTune(base, rows(), folder=tmp_path / "work", **SETTINGS)
    step, done = training.train_step, 0

    def interrupt(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        done += 1
        if done == undisturbed.report.steps:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            job.train(epochs=3)
    assert job.adapter is None
    resumed = job.train(epochs=3)
    assert resumed.report.resumed_from
    assert losses(resumed.history) == losses(undisturbed.history)
    assert not (job.folder / "checkpoints" / resumed.adapter.name).exists()


def test_a_base_is_evaluated_alone_on_rows_of_its_own(base: Path, tmp_path: Path) -> None:
    result = FineTune(base, folder=tmp_path / "work", **SETTINGS).evaluate(rows(5))
    assert result.tuned is None
    assert result.base.available == 5, "all rows are evaluated"
    assert [set(example) for example in result.examples] == [{"prompt", "reference", "base"}] * 5


def test_an_adapter_of_somebody_else_is_evaluated_and_merged(base: Path, tmp_path: Path) -> None:
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    job = FineTune(base, folder=tmp_path / "work", **SETTINGS)
    result = job.evaluate(rows(5), adapter=adapter)
    assert result.tuned is not None
    assert result.tuned.weights.merged_digest
    assert set(result.examples[0]) == {"prompt", "reference", "base", "tuned"}

    merged = job.merge(tmp_path / "out", adapter=adapter)
    assert "parity not measured" in str(merged)
    assert merged.report.max_abs_logit_difference is None
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.float32
    assert job.merge(tmp_path / "out", adapter=adapter).report.merged_digest == merged.report.merged_digest


def test_what_is_missing_is_said(base: Path, tmp_path: Path) -> None:
    job = FineTune(base, folder=tmp_path / "work", **SETTINGS)
    with pytest.raises(ConfigurationError, match="this job has no rows"):
        job.train()
    with pytest.raises(ConfigurationError, match="there is no adapter to merge"):
        job.merge(tmp_path / "out")
    with pytest.raises(ConfigurationError, match="nothing to report"):
        job.report()
    with pytest.raises(AdapterError, match="there is no adapter folder"):
        job.evaluate(rows(5), adapter=tmp_path / "nowhere")


def test_a_merge_replaces_no_files_but_its_own(job: FineTune, tmp_path: Path) -> None:
    job.train()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="holds files that no merge has written"):
        job.merge(tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_settings_of_a_call_count_for_that_call(job: FineTune) -> None:
    small = job.train(rank=2)
    assert job.recipe.training.rank == 2
    with pytest.raises(ConfigurationError, match=r"training\.rnak = 8.* Did you mean 'rank'"):
        job.train(rnak=8)
    assert job.recipe.training.rank == 2, "what was refused is not remembered"
    assert job.train().report.trainable_parameters == 8 * small.report.trainable_parameters


def test_the_prepared_rows_are_shown(job: FineTune) -> None:
    prepared = job.prepare()
    assert "rows to train on" in repr(prepared)
    assert "<iframe" in prepared._repr_html_()
    assert (prepared.folder / "train.parquet").exists()
