"""Checkpoints in a folder and in an S3 store: complete or not used, and training never fails because of them."""

from pathlib import Path

import pytest
import torch

from loraline.training.checkpoint import CheckpointStore


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


def test_corrupt_checkpoint_is_skipped(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = CheckpointStore(where, "key")
    for step in (1, 2):
        store.save(step, {"step": step})
    newest = max(store._backend.names())
    store._backend.write(newest, store._backend.read(newest)[:100])
    assert store.latest() == {"step": 1}
    assert "is corrupt and not used" in capsys.readouterr().out


def test_unreachable_store_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, s3: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("urllib3.Retry.sleep", lambda *arguments: None)  # no waiting between attempts
    store = CheckpointStore("s3://checkpoints", "key")
    assert store.latest() is None
    store.save(1, {"step": 1})
    assert capsys.readouterr().out.count("checkpoints cannot be reached") == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3["AWS_ENDPOINT_URL"])
    store.save(2, {"step": 2})
    assert store.latest() == {"step": 2}


def test_nothing_is_saved_without_a_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = CheckpointStore("", "key")
    store.save(1, {"step": 1})
    assert store.latest() is None
    assert not list(tmp_path.iterdir())
