"""Checkpoints in a folder and in an S3 store: complete or not used; what cannot be read is never taken for none."""

import threading
from pathlib import Path

import pytest
import torch

from loraline.errors import StorageAwayError
from loraline.training.checkpoint import CheckpointStore
from pipelines.local import s3_server


@pytest.fixture(params=["folder", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path)
    request.getfixturevalue("s3")
    return f"s3://checkpoints/{tmp_path.name.replace('_', '-')}"


def test_latest_checkpoint_is_loaded_and_old_ones_are_removed(where: str) -> None:
    store = CheckpointStore(where, "key")
    assert store.latest() is None
    for step in (1, 2, 10):
        store.save(step, {"step": step, "weights": {"a": torch.full((3,), step)}})
    state = CheckpointStore(where, "key").latest()
    assert state is not None
    assert state["step"] == 10
    assert torch.equal(state["weights"]["a"], torch.full((3,), 10))
    assert len(store._backend.names()) == 2
    assert CheckpointStore(where, "other").latest() is None


def test_corrupt_checkpoint_is_skipped(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = CheckpointStore(where, "key")
    for step in (1, 2):
        store.save(step, {"step": step})
    newest = max(store._backend.names())
    (tmp_path / "cut").write_bytes(b"cut")
    store._backend.put(tmp_path / "cut", newest)
    assert store.latest() == {"step": 1}
    assert "is corrupt and not used" in capsys.readouterr().out


def test_a_store_that_is_away_while_training_runs_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, s3: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("urllib3.Retry.sleep", lambda *arguments: None)  # no waiting between attempts
    store = CheckpointStore("s3://checkpoints", "key")
    assert not store.save(1, {"step": 1})
    assert not store.save(2, {"step": 2})
    assert capsys.readouterr().out.count("is not saved") == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3["AWS_ENDPOINT_URL"])
    assert store.save(2, {"step": 2})
    assert store.latest() == {"step": 2}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other quickly."""
    monkeypatch.setattr("urllib3.Retry.sleep", lambda *arguments: None)
    monkeypatch.setattr("loraline.storage._SECONDS_BETWEEN_TRIES", 0.05)


@pytest.mark.usefixtures("impatient")
def test_a_store_that_is_away_when_a_training_begins_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real server, which is down at first and then comes up with the checkpoint that it had."""
    with s3_server.serve(tmp_path) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        port = int(environment["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
        CheckpointStore("s3://checkpoints", "key").save(7, {"step": 7})
    monkeypatch.setattr(s3_server, "_free_port", lambda: port)
    done = threading.Event()

    def come_up() -> None:
        with s3_server.serve(tmp_path):
            done.wait(60)

    threading.Timer(1.5, come_up).start()
    try:
        assert CheckpointStore("s3://checkpoints", "key").latest() == {"step": 7}
        assert CheckpointStore("s3://checkpoints", "other").latest() is None
    finally:
        done.set()
    told = capsys.readouterr().out
    assert told.count("waiting for the object store, 0 s of at most 900") == 1
    assert "the object store answers, after" in told


@pytest.mark.usefixtures("impatient")
def test_a_store_that_stays_away_is_an_error_and_no_new_beginning(monkeypatch: pytest.MonkeyPatch, s3: object) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("loraline.storage._SECONDS_TO_WAIT", 0.2)
    with pytest.raises(StorageAwayError, match="still away after 0 minutes, and what it holds is not known"):
        CheckpointStore("s3://checkpoints", "key").latest()


def test_what_cannot_be_read_is_an_error_and_no_new_beginning(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that the server refuses, and a place that is no folder: neither says that there is no checkpoint."""
    store = CheckpointStore(where, "key")
    store.save(1, {"step": 1})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    if not where.startswith("s3"):
        (tmp_path / "file").touch()
        store = CheckpointStore(str(tmp_path / "file"), "key")
    with pytest.raises(OSError, match=r"listing s3|Not a directory") as refused:
        store.latest()
    assert not isinstance(refused.value, StorageAwayError)


def test_a_read_that_fails_is_an_error_and_no_new_beginning(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(where, "key")
    store.save(1, {"step": 1})
    names = store._backend.names()
    store._backend.remove(names[0])
    monkeypatch.setattr(store._backend, "names", lambda: names)
    with pytest.raises(OSError, match=r"there is no object|No such file"):
        store.latest()


def test_nothing_is_saved_without_a_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = CheckpointStore("", "key")
    store.save(1, {"step": 1})
    assert store.latest() is None
    assert not list(tmp_path.iterdir())
