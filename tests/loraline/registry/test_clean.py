"""Retention against a real object store and a real registry."""

import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from loraline import storage, tracking
from loraline.errors import StorageError
from loraline.registry import register as register_module
from loraline.registry.clean import clean
from loraline.registry.files import CARD
from loraline.registry.promote import promote, rollback
from tests.loraline.registered import GatedRun, register_gated

pytestmark = pytest.mark.usefixtures("s3", "mlflow_store")
NEXT_MONTH = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def client(mlflow_store: str) -> MlflowClient:
    return MlflowClient(mlflow_store)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of the test's own bucket."""
    return f"clean-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"


@pytest.fixture
def bucket(name: str, tmp_path: Path, make_gated_run: Callable[[bytes], GatedRun]) -> str:
    """A bucket with checkpoints and five versions of a model: 5 is the challenger, 2 the champion, 1 was it before."""
    for number in range(1, 6):
        register_gated(make_gated_run(b"weights %d" % number), tmp_path / str(number), name)
        if number <= 2:
            promote("dates")
    (tmp_path / "000000007-abc.pt").write_bytes(b"state")
    storage.upload(tmp_path / "000000007-abc.pt", f"s3://{name}/checkpoints/key/000000007-abc.pt")
    return name


def there(client: MlflowClient) -> dict[str, bool]:
    """Number of each version -> whether all its files are there."""
    return {
        str(one.version): bool(storage.list_objects(f"{one.source}/files.json"))
        for one in client.search_model_versions()
    }


def test_what_an_alias_needs_stays(client: MlflowClient, bucket: str) -> None:
    losers = {
        str(one.version): str(one.source) for one in client.search_model_versions() if one.version in (3, "3", 4, "4")
    }
    done = clean(bucket, keep=0, now=NEXT_MONTH - timedelta(days=29))
    assert done.versions == ["dates/3", "dates/4"]
    assert done.size > 0
    assert there(client) == {"1": True, "2": True, "5": True}
    assert not any(storage.list_objects(url) for url in losers.values())
    assert rollback("dates").version == "1"
    assert promote("dates").version == "5"


def test_the_newest_stay(client: MlflowClient, bucket: str) -> None:
    assert clean(bucket, keep=1).versions == ["dates/3"]
    assert clean(bucket, keep=1).versions == []
    assert set(there(client)) == {"1", "2", "4", "5"}


def test_a_dry_run_says_and_does_nothing(client: MlflowClient, bucket: str) -> None:
    told = clean(bucket, keep=0, dry_run=True, now=NEXT_MONTH)
    assert told.versions == ["dates/3", "dates/4"]
    assert told.checkpoints == [f"s3://{bucket}/checkpoints/key"]
    assert len(there(client)) == 5
    assert all(there(client).values())
    done = clean(bucket, keep=0, now=NEXT_MONTH)
    assert (done.versions, done.checkpoints, done.size) == (told.versions, told.checkpoints, told.size)


def test_checkpoints_stay_for_a_week(bucket: str) -> None:
    assert clean(bucket).checkpoints == []
    assert storage.list_objects(f"s3://{bucket}/checkpoints")
    assert clean(bucket, now=NEXT_MONTH).checkpoints == [f"s3://{bucket}/checkpoints/key"]
    assert not storage.list_objects(f"s3://{bucket}/checkpoints")


@pytest.fixture
def small(name: str, tmp_path: Path, make_gated_run: Callable[[bytes], GatedRun]) -> str:
    """A bucket with one version of a model, the challenger."""
    register_gated(make_gated_run(b"weights 1"), tmp_path / "1", name)
    return name


@pytest.fixture
def dead(
    small: str, make_gated_run: Callable[[bytes], GatedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Address of the files of a registration that was killed: uploaded, and no version points at them."""

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(register_module, "_register_version", refuse)
        with pytest.raises(StorageError):
            register_gated(make_gated_run(b"weights 2"), tmp_path / "2", small)
    [version] = tracking.connect().search_model_versions()
    folders = {item.key.rsplit("/", 1)[0] for item in storage.list_objects(f"s3://{small}/models") if CARD in item.key}
    [url] = {f"s3://{small}/{folder}" for folder in folders} - {str(version.source)}
    return url


def test_an_upload_that_became_no_version_goes_after_a_week(client: MlflowClient, small: str, dead: str) -> None:
    assert clean(small).uploads == []
    assert clean(small, dry_run=True, now=NEXT_MONTH).uploads == [dead]
    assert storage.list_objects(f"{dead}/files.json")
    storage.remove(f"{dead}/files.json")  # as if it had been killed earlier
    done = clean(small, now=NEXT_MONTH)
    assert done.uploads == [dead]
    assert done.size > 0
    assert not storage.list_objects(dead)
    assert there(client) == {"1": True}


def test_what_was_not_lost_stays(
    small: str, empty_mlflow_database: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    storage.upload(tmp_path / "config.json", f"s3://{small}/models/smollm2/onnx/config.json")
    before = storage.list_objects(f"s3://{small}")
    another = shutil.copyfile(empty_mlflow_database, tmp_path / "another.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{another}")
    assert clean(small, keep=0, now=NEXT_MONTH).uploads == []
    assert storage.list_objects(f"s3://{small}") == before, "another registry's versions, and other people's files"


def test_nothing_goes_while_a_run_is_running(client: MlflowClient, bucket: str) -> None:
    with tracking.child_run("train_lora") as tracker:
        assert tracker.run_id()
        done = clean(bucket, keep=0)
        assert set(done.running) == {"test-run", "train_lora"}
        assert done.versions == done.checkpoints == []
    assert len(there(client)) == 5


def test_a_run_that_never_ended_does_not_stop_it_for_ever(bucket: str) -> None:
    with tracking.child_run("train_lora") as tracker:
        assert tracker.run_id()
        assert clean(bucket, keep=0, now=NEXT_MONTH).versions == ["dates/3", "dates/4"]


def test_other_buckets_and_files_that_two_versions_share_stay(client: MlflowClient, bucket: str) -> None:
    shared = client.get_model_version("dates", "3")
    client.create_registered_model("copies")
    client.create_model_version("copies", str(shared.source))
    assert clean("elsewhere", keep=0).versions == []
    assert "dates/3" in clean(bucket, keep=0).versions
    assert storage.list_objects(f"{shared.source}/files.json")


def test_an_empty_store_is_clean(client: MlflowClient) -> None:
    done = clean("never-made", now=NEXT_MONTH)
    assert (done.versions, done.checkpoints, done.size, done.running) == ([], [], 0, [])
