"""Registering against a real object store and a real registry, killed in between and again."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.gate.config import GateConfig
from components.gate.judge import judge
from components.register_model import register as module
from components.register_model.config import RegistryConfig
from components.register_model.register import Registration, register
from components.shared import storage
from components.shared.errors import StorageError, ValidationError
from tests.components.run_outputs import LINEAGE, Outputs, change, write_outputs

pytestmark = pytest.mark.usefixtures("s3", "mlflow_store")


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return write_outputs(tmp_path)


def judged(outputs: Outputs) -> Path:
    folder = outputs.dataset.parent / "evidence"
    judge(
        GateConfig(metric="exact_match"),
        LINEAGE,
        dataset=outputs.dataset,
        base=outputs.base,
        tuned=outputs.tuned,
        adapter=outputs.adapter,
        parity=outputs.parity,
        output=folder,
    )
    return folder


def run(outputs: Outputs, bucket: str) -> Registration:
    config = RegistryConfig(model_name="dates", bucket=bucket)
    return register(config, outputs.adapter, outputs.merged, judged(outputs), outputs.dataset.parent / "registration")


def test_a_promoted_model_is_stored_and_registered(outputs: Outputs, mlflow_store: str, tmp_path: Path) -> None:
    registration = run(outputs, "whole")
    stored = {
        path.relative_to(tmp_path / "back").as_posix() for path in storage.download(registration.url, tmp_path / "back")
    }
    assert stored == {
        "README.md",
        "files.json",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "adapter/training.json",
        "adapter/mask.json",
        "merged/config.json",
        "merged/model.safetensors",
        "merged/parity.json",
        "evidence/evidence.json",
        "evidence/verdict.json",
        "evidence/report.html",
    }
    assert (tmp_path / "back/merged/model.safetensors").read_bytes() == (
        outputs.merged / "model.safetensors"
    ).read_bytes()
    assert json.loads((tmp_path / "registration/registration.json").read_text()) == registration.model_dump()
    assert registration.url == f"s3://whole/models/dates/{registration.digest}"

    version = MlflowClient(mlflow_store).get_model_version_by_alias("dates", "challenger")
    assert (str(version.version), version.source) == (registration.version, registration.url)
    assert version.run_id
    expected = {
        "verdict": "promote",
        "content_digest": registration.digest,
        "dataset_fingerprint": "f" * 64,
        "base_source": "scratch:dates",
        "base_revision": "r" * 40,
        "base_digest": "b" * 64,
        "recipe_digest": "5" * 64,
        "code_version": "7" * 64,
        "base_exact_match": "0",
        "tuned_exact_match": "0.9",
        "gain": "0.9",
    }
    assert expected.items() <= version.tags.items()


def test_a_rejected_model_is_refused(outputs: Outputs, mlflow_store: str) -> None:
    change(outputs.parity / "parity.json", max_abs_logit_difference=0.7)
    with pytest.raises(ValidationError, match=r"verdict is 'reject'.*0\.7 in a logit"):
        run(outputs, "refused")
    assert not MlflowClient(mlflow_store).search_registered_models()


@pytest.mark.parametrize("last", ["an upload", "the version", "a tag"])
def test_killed_anywhere_and_run_again_it_ends_with_one_version(
    outputs: Outputs, mlflow_store: str, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    bucket = f"killed-{last.replace(' ', '-')}"

    class KilledError(BaseException):
        pass

    def dies(calls: int, original: object) -> object:
        left = [calls]

        def call(*args: object, **kwargs: object) -> object:
            if not left[0]:
                raise KilledError
            left[0] -= 1
            return original(*args, **kwargs)  # type: ignore[operator]

        return call

    with monkeypatch.context() as patch:
        if last == "an upload":
            patch.setattr(module.storage, "upload", dies(3, storage.upload))
        if last == "the version":
            patch.setattr(MlflowClient, "set_model_version_tag", dies(0, MlflowClient.set_model_version_tag))
        if last == "a tag":
            patch.setattr(MlflowClient, "set_model_version_tag", dies(5, MlflowClient.set_model_version_tag))
        with pytest.raises(KilledError):
            run(outputs, bucket)
    client = MlflowClient(mlflow_store)
    if last != "an upload":
        assert not client.get_registered_model("dates").aliases, "no alias before all tags are there"

    registration = run(outputs, bucket)
    assert [str(version.version) for version in client.search_model_versions("name = 'dates'")] == [
        registration.version
    ]
    assert client.get_model_version("dates", registration.version).tags["content_digest"] == registration.digest
    assert {k: str(v) for k, v in client.get_registered_model("dates").aliases.items()} == {
        "challenger": registration.version
    }


def test_a_request_that_arrives_twice_makes_one_version(
    outputs: Outputs, mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MlflowClient.create_model_version

    def twice(*args: object, **kwargs: object) -> object:
        original(*args, **kwargs)  # type: ignore[arg-type]
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(MlflowClient, "create_model_version", twice)
    assert run(outputs, "twice").version == "1"
    assert len(MlflowClient(mlflow_store).search_model_versions("name = 'dates'")) == 1


def test_what_is_stored_already_is_not_sent_again(outputs: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(outputs, "again")
    sent: list[str] = []
    original = storage.upload

    def upload(path: Path, url: str) -> None:
        sent.append(url.removeprefix(f"{first.url}/"))
        original(path, url)

    monkeypatch.setattr(module.storage, "upload", upload)
    assert run(outputs, "again") == first
    assert sent == ["README.md", "files.json"], "which are small"


def test_other_content_is_another_version(outputs: Outputs) -> None:
    first = run(outputs, "two")
    (outputs.adapter / "adapter_model.safetensors").write_bytes(b"other weights")
    second = run(outputs, "two")
    assert (first.version, second.version) == ("1", "2")
    assert first.digest != second.digest


def test_a_store_that_is_away_says_so(outputs: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    with pytest.raises(StorageError, match="MLFLOW_TRACKING_URI"):
        run(outputs, "away")
