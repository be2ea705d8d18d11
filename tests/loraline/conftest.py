"""What the tests of several steps need: an MLflow store, and runs with their evidence, each made once for all."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loraline.registered import GatedRun


@pytest.fixture(scope="session")
def empty_mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables; making them takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_store(mlflow_store: str, empty_mlflow_database: Path) -> str:
    """The same, with its tables made."""
    shutil.copyfile(empty_mlflow_database, mlflow_store.removeprefix("sqlite:///"))
    return mlflow_store


@pytest.fixture(scope="session")
def make_gated_run(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[bytes], GatedRun]":
    """Gives the promoted run whose adapter has certain weights. To be read only: other tests get the same."""
    from tests.loraline.registered import gated_run

    runs: dict[bytes, GatedRun] = {}

    def run(weights: bytes) -> "GatedRun":
        if weights not in runs:
            runs[weights] = gated_run(tmp_path_factory.mktemp("gated"), weights)
        return runs[weights]

    return run


@pytest.fixture(scope="session")
def promoted(make_gated_run: "Callable[[bytes], GatedRun]") -> "GatedRun":
    """A run that the gate promoted. To be read only."""
    return make_gated_run(b"weights")


@pytest.fixture(scope="session")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> "GatedRun":
    """A run that the gate rejected for its merge. To be read only."""
    from loraline.artifacts.merging import MergeReport
    from tests.loraline.registered import GatedRun
    from tests.loraline.run_outputs import change, run_gate, write_outputs

    folder = tmp_path_factory.mktemp("rejected")
    run = GatedRun(write_outputs(folder), folder / "evidence")
    change(MergeReport, run.outputs.parity, effect_kept=0.7)
    assert run_gate(run.outputs, run.evidence) == "reject"
    return run
