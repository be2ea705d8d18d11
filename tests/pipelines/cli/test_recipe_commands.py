"""`loraline plan` says first whether the base can be trained, merged and exported."""

from pathlib import Path

import pytest

from tests.pipelines.cli.conftest import loraline


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: dict[str, str], mlflow_store: str) -> None:
    monkeypatch.chdir(tmp_path)


def test_plan_of_a_base_that_suits(recipe: str, medical_model: Path) -> None:
    done = loraline("plan", recipe, f"model.source={medical_model}", "--accelerator", "H100")
    assert done.exit_code == 0, done.output
    assert "can be trained, merged and exported" in done.output
    assert "fits" in done.output


def test_plan_of_a_base_that_does_not(recipe: str, medical_model: Path) -> None:
    wrong = ["training.target_modules=[q_prj,lm_head]", "training.use_dora=true"]
    done = loraline("plan", recipe, f"model.source={medical_model}", *wrong)
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert "cannot be trained, merged and exported with these settings: - training.target_modules: no linear" in said
