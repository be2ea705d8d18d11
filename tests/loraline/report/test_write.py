"""The files of the report, and the figures in MLflow."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from loraline.report.write import write_report
from tests.loraline.registered import GatedRun
from tests.loraline.report.test_model_card import REGISTRATION


def test_the_report_ends_the_run_in_mlflow(promoted: GatedRun, tmp_path: Path, mlflow_store: str) -> None:
    REGISTRATION.save(tmp_path / "registration")
    files = write_report(promoted.evidence, tmp_path / "registration", tmp_path / "report")
    assert "models:/dates/3" in files.page.read_text()
    assert files.summary.read_text().startswith("## Promote")

    client = MlflowClient(mlflow_store)
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["verdict"] == "promote"
    assert run.data.tags["model_version"] == "dates/3"
    assert run.data.metrics["base/exact_match"] == 0.0
    assert run.data.metrics["tuned/exact_match"] == 0.9
    assert run.data.metrics["champion/exact_match"] == 0.5
    assert run.data.metrics["gain"] == 0.9
    assert run.data.metrics["gain_lower"] == pytest.approx(0.6818, abs=1e-4)
    assert run.data.params["training.rank"] == "16"
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"report.html", "README.md", "summary.md"}
    assert not (tmp_path / "report" / "unsent.json").exists()
