"""The database of tracked runs is whole or not there, whatever interrupts the process that makes it."""

import multiprocessing
import os
import signal
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.db.utils import InitialBase, create_sqlalchemy_engine

from loraline import tracking
from loraline.errors import StorageError
from loraline.tracking.database import make_database

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the database goes; nothing is there yet."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/home/mlflow.db")
    return tmp_path / "home" / "mlflow.db"


def use(name: str) -> None:
    tracking.connect().create_registered_model(name)


def assert_usable(path: Path, *names: str) -> None:
    """The next run works, and what was registered is there."""
    use("next")
    assert {model.name for model in MlflowClient(f"sqlite:///{path}").search_registered_models()} == {"next", *names}


def size(folder: Path) -> int:
    """Bytes in a folder, whose files come and go."""
    total = 0
    for file in folder.glob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def test_a_run_after_one_that_was_killed_while_it_made_the_database(path: Path) -> None:
    """Killed at moments that are aimed by how much has been written; MLflow's whole database has a megabyte."""
    kills = 0
    for written in (1, 150_000, 400_000, 600_000):
        first = FORK.Process(target=use, args=("first",))
        first.start()
        while size(path.parent) < written and first.is_alive():
            time.sleep(0.0005)
        assert first.pid
        os.kill(first.pid, signal.SIGKILL)
        first.join()
        kills += first.exitcode == -signal.SIGKILL and not path.exists()
    assert kills >= 3
    assert_usable(path)
    assert {file.name for file in path.parent.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_options_of_a_uri_are_no_part_of_the_files_name(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is no database, but long enough to be one" * 20)
    with pytest.raises(StorageError, match=r"mlflow\.db, the database of tracked runs, cannot be read"):
        make_database(f"sqlite:///{path}?timeout=5")


def test_two_first_runs_at_once(path: Path) -> None:
    both = [FORK.Process(target=use, args=(name,)) for name in ("one", "other")]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert_usable(path, "one", "other")


@pytest.fixture
def half_made(path: Path) -> Path:
    """What MLflow leaves where it is interrupted between its first tables and its migrations."""
    path.parent.mkdir()
    engine = create_sqlalchemy_engine(f"sqlite:///{path}")
    InitialBase.metadata.create_all(engine)
    engine.dispose()
    return path


def test_a_half_made_database_without_a_run_is_set_aside(half_made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_usable(half_made)
    assert "was left half made by an interrupted run" in capsys.readouterr().out
    assert (half_made.parent / "mlflow.db.half-made-1").exists()


def test_a_half_made_database_with_runs_is_kept_and_the_way_out_told(half_made: Path) -> None:
    with closing(sqlite3.connect(half_made)) as connection:
        connection.execute("insert into runs (run_uuid) values ('a')")
        connection.commit()
    before = half_made.read_bytes()
    with pytest.raises(
        StorageError, match=r"holds 1 runs, .*`mlflow db upgrade sqlite:///.*or begin a new one with `mv"
    ):
        use("next")
    assert half_made.read_bytes() == before


def test_what_is_no_database_is_said(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is no database, but long enough to be one" * 20)
    with pytest.raises(StorageError, match=r"file is not a database\. Move it away"):
        use("next")


def test_other_stores_and_memory_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in ("http://127.0.0.1:9", "postgresql://host/name", "sqlite://", "sqlite:///:memory:", "databricks"):
        make_database(uri)
    assert not list(tmp_path.iterdir())
