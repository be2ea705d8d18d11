"""One phase at a time on the command line, on folders, with a tiny model."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from loraline.artifacts.evaluation import EvaluationReport
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.training import TrainReport
from tests import tiny
from tests.pipelines.cli.conftest import loraline

MODEL = ["model.device=cpu", "model.compute_dtype=float32"]
QUICK_EVALUATION = ["evaluation.max_new_tokens=4", "evaluation.max_examples=5", *MODEL]
QUICK_MERGE = ["merge.parity_examples=2", "merge.generated_tokens=4", *MODEL]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with rows.jsonl."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")  # or the command sets it for all
    monkeypatch.setenv("LORALINE_CACHE", str(tmp_path_factory.getbasetemp() / "phase-commands-cache"))
    rows = [{"prompt": f"say {number}", "completion": f"{number} {number}"} for number in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


def test_the_phases_follow_one_another(base: Path, folder: Path) -> None:
    prepared = loraline("prepare", "rows.jsonl", "--model", base, "-o", "data", "data.eval_fraction=0.2")
    assert prepared.exit_code == 0, prepared.output
    assert prepared.stdout == "data/report.html\n"

    trained = loraline("train", base, "-d", "data", "-o", "adapter", "training.rank=2", "training.epochs=1", *MODEL)
    assert trained.exit_code == 0, trained.output
    assert "adapter in adapter" in trained.stdout
    assert TrainReport.load(folder / "adapter").steps > 0
    assert not list(folder.glob(".adapter.*")), "checkpoints are removed when training is done"

    evaluated = loraline("evaluate", base, "-a", "adapter", "-d", "data", "-o", "evaluation", *QUICK_EVALUATION)
    assert evaluated.exit_code == 0, evaluated.output
    assert "tuned" in evaluated.stdout

    merged = loraline("merge", "adapter", "-d", "data", "-o", "merged", *QUICK_MERGE)
    assert merged.exit_code == 0, merged.output
    evaluated_as = EvaluationReport.load(folder / "evaluation/tuned").weights
    assert evaluated_as.merged_digest == MergeReport.load(folder / "merged").merged_digest
    assert AutoModelForCausalLM.from_pretrained(folder / "merged").config.vocab_size == tiny.VOCABULARY

    phases = ["-d", "data", "-e", "evaluation", "-a", "adapter", "-m", "merged"]
    judged = loraline("report", "evidence", *phases, "-o", "page.html")
    assert judged.exit_code == 0, judged.output
    assert judged.stdout.split()[0] in ("promote", "reject")
    shown = loraline("report", "evidence", "-o", "again.html")
    assert (folder / "again.html").read_bytes() == (folder / "page.html").read_bytes()
    assert shown.stdout.split()[0] == judged.stdout.split()[0]


def test_a_base_is_evaluated_alone_on_rows(base: Path) -> None:
    result = loraline("evaluate", base, "--data", "rows.jsonl", *QUICK_EVALUATION)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("5 held-out examples")
    assert "tuned" not in result.stdout


def test_an_adapter_of_somebody_else_is_merged_without_rows(base: Path, folder: Path) -> None:
    adapter = tiny.save_adapter(folder / "theirs", base)
    result = loraline("merge", adapter, "-o", "merged", *MODEL)
    assert result.exit_code == 0, result.output
    assert "parity not measured" in result.stdout


def test_a_merge_that_is_not_the_adapter_on_its_base_is_a_bad_result(base: Path, folder: Path) -> None:
    adapter = tiny.save_adapter(folder / "theirs", base)
    limit = "merge.max_divergence=1e-12"
    result = loraline("merge", adapter, "-d", "rows.jsonl", "-o", "merged", limit, *QUICK_MERGE)
    assert result.exit_code == 1, result.output
    assert "of the adapter's effect kept, a divergence of" in result.stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["prepare", "rows.jsonl"], "Name the base model with --model"),
        (["prepare", "nowhere.jsonl", "--model", "BASE"], "nowhere.jsonl"),
        (["train", "BASE", "-d", "nowhere"], "loraline prepare ROWS --model MODEL -o nowhere"),
        (["train", "BASE", "training.rnak=8"], "Did you mean 'rank'"),
        (["train", "quikstart"], "Did you mean the recipe 'quickstart'"),
        (["evaluate", "BASE", "-a", "./nowhere"], "there is no adapter folder nowhere"),
        (["merge", "./nowhere"], "there is no adapter folder nowhere"),
        (["report", "nowhere"], "there is no evidence.json in nowhere"),
        (["report", "evidence", "-d", "data", "-m", "merged"], "--evaluation, --adapter missing"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(words: list[str], reason: str, base: Path) -> None:
    result = loraline(*(base if word == "BASE" else word for word in words))
    assert result.exit_code == 2, result.output
    assert reason in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["prepare", "train", "evaluate", "merge", "report"])
def test_help_teaches_by_an_example(command: str) -> None:
    result = loraline(command, "--help")
    assert result.exit_code == 0
    assert f"Example: loraline {command} " in result.stdout
