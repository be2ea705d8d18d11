"""A store of tracked runs that is there at once: a database is made once and copied for each test."""

import shutil
from pathlib import Path

import pytest


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
