"""Registering against a real object store and a real registry, killed in between and again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from loraline import storage
from loraline.artifacts.adapter_files import MASK_PAGE
from loraline.artifacts.merging import MergeReport
from loraline.errors import StorageError, ValidationError
from loraline.evidence.schema import Evidence
from loraline.registry import register as module
from loraline.registry.files import PAGE
from loraline.registry.verify import verify
from tests.loraline.registered import GatedRun, register_gated
from tests.loraline.run_outputs import change

pytestmark = pytest.mark.usefixtures("s3", "mlflow_store")


class KilledError(BaseException):
    """Ends a step as SIGKILL would, as far as the step can tell."""


def test_a_promoted_model_is_stored_and_registered(
    promoted: GatedRun, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORALINE_RUN_GPU_IMAGE", "registry.example/loraline-gpu@sha256:1")
    registration = register_gated(promoted, tmp_path / "registration", "whole")
    stored = {
        path.relative_to(tmp_path / "back").as_posix() for path in storage.download(registration.url, tmp_path / "back")
    }
    assert stored == {
        "README.md",
        "files.json",
        "registered.json",
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
    weights = "merged/model.safetensors"
    assert (tmp_path / "back" / weights).read_bytes() == (promoted.outputs.merged.parent / weights).read_bytes()
    assert json.loads((tmp_path / "registration/registration.json").read_text()) == registration.model_dump()
    assert registration.url == f"s3://whole/models/dates/{registration.digest}"

    version = MlflowClient(mlflow_store).get_model_version_by_alias("dates", "challenger")
    assert (str(version.version), version.source) == (registration.version, registration.url)
    assert version.run_id
    assert version.tags == registration.tags
    expected = {
        "verdict": "promote",
        "content_digest": registration.digest,
        "dataset_fingerprint": "f" * 64,
        "base_source": "scratch:dates",
        "base_revision": "r" * 40,
        "base_digest": "b" * 64,
        "recipe_digest": "5" * 64,
        "base_exact_match": "0",
        "tuned_exact_match": "0.9",
        "gain": "0.9",
        "compared_with_version": "6",
        "pipeline_run": "test-run",
        "mlflow_run": version.run_id,
        "gpu_image": "registry.example/loraline-gpu@sha256:1",
    }
    assert expected.items() <= version.tags.items()
    assert version.tags["adapter_digest"] == MergeReport.load(promoted.outputs.parity).adapter_digest
    assert "light_image" not in version.tags, "nothing in the environment names it"


def test_a_rejected_model_is_refused(rejected: GatedRun, mlflow_store: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"verdict is 'reject'.*0\.7 of the adapter"):
        register_gated(rejected, tmp_path, "refused")
    assert not MlflowClient(mlflow_store).search_registered_models()


def with_evidence(run: GatedRun, folder: Path) -> GatedRun:
    """The run with a copy of its evidence, to be changed."""
    return replace(run, evidence=Path(shutil.copytree(run.evidence, folder / "evidence")))


def test_evidence_of_another_model_is_refused(
    make_gated_run: Callable[[bytes], GatedRun], promoted: GatedRun, tmp_path: Path
) -> None:
    swapped = replace(promoted, evidence=make_gated_run(b"other weights").evidence)
    named = r"adapter that it merged is \w+, and these files are .* the merged model that it compared is \w+, and these"
    with pytest.raises(ValidationError, match=named):
        register_gated(swapped, tmp_path, "swapped")
    assert storage.connect().bucket_exists("swapped") is False, "nothing was uploaded"


def test_evidence_that_does_not_come_to_its_verdict_is_refused(
    rejected: GatedRun, promoted: GatedRun, tmp_path: Path
) -> None:
    changed = with_evidence(rejected, tmp_path)
    verdict = Evidence.load(promoted.evidence).verdict
    change(Evidence, changed.evidence, verdict=verdict)
    with pytest.raises(ValidationError, match=r"computed again, the findings give reject.*0\.7 of the adapter"):
        register_gated(changed, tmp_path / "registration", "claimed")


def test_evidence_that_names_no_files_is_refused(promoted: GatedRun, tmp_path: Path) -> None:
    changed = with_evidence(promoted, tmp_path)
    merge = MergeReport.load(promoted.outputs.parity).model_copy(update={"adapter_digest": ""})
    change(Evidence, changed.evidence, merge=merge)
    with pytest.raises(ValidationError, match="does not name the adapter that it merged"):
        register_gated(changed, tmp_path / "registration", "unnamed")


@pytest.mark.parametrize("last", ["an upload", "the version", "the mark"])
def test_killed_anywhere_and_run_again_it_ends_with_one_version(
    promoted: GatedRun, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    bucket = f"killed-{last.replace(' ', '-')}"
    create, upload = MlflowClient.create_model_version, storage.upload

    def create_and_die(*args: object, **kwargs: object) -> None:
        create(*args, **kwargs)  # type: ignore[arg-type]
        raise KilledError

    def upload_and_die(path: Path, url: str) -> None:
        upload(path, url)
        if url.endswith({"an upload": "merged/config.json", "the mark": "registered.json"}[last]):
            raise KilledError

    with monkeypatch.context() as patch:
        if last == "the version":
            patch.setattr(MlflowClient, "create_model_version", create_and_die)
        else:
            patch.setattr(module.storage, "upload", upload_and_die)
        with pytest.raises(KilledError):
            register_gated(promoted, tmp_path, bucket)
    client = MlflowClient(mlflow_store)
    if last != "an upload":
        assert not client.get_registered_model("dates").aliases

    registration = register_gated(promoted, tmp_path, bucket)
    versions = client.search_model_versions("name = 'dates'")
    assert [str(version.version) for version in versions] == [registration.version]
    assert {k: str(v) for k, v in client.get_registered_model("dates").aliases.items()} == {
        "challenger": registration.version
    }


def test_tags_that_are_not_what_the_evidence_says_are_set_again(
    promoted: GatedRun, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = register_gated(promoted, tmp_path, "tags")
    client = MlflowClient(mlflow_store)
    client.set_model_version_tag("dates", "1", "gain", "2")
    client.delete_model_version_tag("dates", "1", "content_digest")
    monkeypatch.setenv("LORALINE_RUN_ID", "a-later-run")
    assert register_gated(promoted, tmp_path, "tags") == first, "also the run that made the version"
    assert client.get_model_version("dates", "1").tags == first.tags


def test_a_request_that_arrives_twice_makes_one_version(
    promoted: GatedRun, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MlflowClient.create_model_version

    def twice(*args: object, **kwargs: object) -> object:
        original(*args, **kwargs)  # type: ignore[arg-type]
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(MlflowClient, "create_model_version", twice)
    assert register_gated(promoted, tmp_path, "twice").version == "1"
    assert len(MlflowClient(mlflow_store).search_model_versions("name = 'dates'")) == 1


def test_what_is_stored_already_is_not_sent_again(
    promoted: GatedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = register_gated(promoted, tmp_path, "again")
    sent: list[str] = []
    original = storage.upload

    def upload(path: Path, url: str) -> None:
        sent.append(url.removeprefix(f"{first.url}/"))
        original(path, url)

    monkeypatch.setattr(module.storage, "upload", upload)
    assert register_gated(promoted, tmp_path, "again") == first
    assert sent == ["README.md", "files.json", "registered.json"], "which are small"


def test_other_content_is_another_version(make_gated_run: Callable[[bytes], GatedRun], tmp_path: Path) -> None:
    first = register_gated(make_gated_run(b"weights"), tmp_path, "two")
    second = register_gated(make_gated_run(b"other weights"), tmp_path, "two")
    assert (first.version, second.version) == ("1", "2")
    assert first.digest != second.digest


def test_a_store_that_is_away_says_so(promoted: GatedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    with pytest.raises(StorageError, match="MLFLOW_TRACKING_URI"):
        register_gated(promoted, tmp_path, "away")


def test_another_style_of_the_pages_is_no_new_version(
    promoted: GatedRun, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = register_gated(promoted, tmp_path, "style")
    (promoted.outputs.adapter / MASK_PAGE).write_text("<p>the mask in another style</p>")
    monkeypatch.setattr(module, "render_run_page", lambda evidence: "<p>another style</p>")
    monkeypatch.setattr(module, "render_model_card", lambda evidence: "another card")
    try:
        second = register_gated(promoted, tmp_path, "style")
    finally:
        (promoted.outputs.adapter / MASK_PAGE).unlink()
    assert (second.version, second.url, second.digest) == (first.version, first.url, first.digest)
    changed = {tag for tag in first.tags if first.tags[tag] != second.tags[tag]}
    assert changed == {"pages_digest"}
    assert MlflowClient(mlflow_store).get_model_version("dates", "1").tags == second.tags
    [page] = storage.download(f"{second.url}/{PAGE}", tmp_path / "back")
    assert page.read_text() == "<p>another style</p>"
    verification = verify("models:/dates/1", lambda done, total: None)
    assert verification.passed, verification.checks
