"""What the tests of several steps need: a store of tracked runs, and judged runs, each made once for all of them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loraline.registered import JudgedRun


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
def judged(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[bytes], JudgedRun]":
    """Gives the promoted run whose adapter has certain weights. To be read only: other tests get the same."""
    from tests.loraline.registered import judged_run

    runs: dict[bytes, JudgedRun] = {}

    def run(weights: bytes) -> "JudgedRun":
        if weights not in runs:
            runs[weights] = judged_run(tmp_path_factory.mktemp("judged"), weights)
        return runs[weights]

    return run


@pytest.fixture(scope="session")
def promoted(judged: "Callable[[bytes], JudgedRun]") -> "JudgedRun":
    """A run that the gate promoted. To be read only."""
    return judged(b"weights")


@pytest.fixture(scope="session")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> "JudgedRun":
    """A run that the gate rejected for its merge. To be read only."""
    from loraline.artifacts.merging import MergeReport
    from tests.loraline.registered import JudgedRun
    from tests.loraline.run_outputs import change, judge_outputs, write_outputs

    folder = tmp_path_factory.mktemp("rejected")
    run = JudgedRun(write_outputs(folder), folder / "evidence")
    change(MergeReport, run.outputs.parity, max_abs_logit_difference=0.7)
    assert judge_outputs(run.outputs, run.evidence) == "reject"
    return run
