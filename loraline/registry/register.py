"""Register a model that passed the gate: its files in the object store, then version and tags, then the alias."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from loraline import progress, storage, tracking
from loraline.artifacts.registration import Registration
from loraline.errors import ValidationError
from loraline.evidence.schema import Evidence
from loraline.identity.digests import digest_file
from loraline.registry.config import RegistryConfig
from loraline.registry.files import CARD, FILE_LIST, PAGE, REGISTERED, FileList, StoredFile
from loraline.registry.tags import RUN_TAGS, evidence_tags
from loraline.registry.verification import check_evidence
from loraline.registry.versions import CHALLENGER, errors_named
from loraline.report.model_card import render_model_card
from loraline.report.run_page import render_run_page

# In the order of RUN_TAGS, after MLflow's run.
_RUN_VARIABLES = ("LORALINE_RUN_ID", "LORALINE_RUN_GPU_IMAGE", "LORALINE_RUN_LIGHT_IMAGE")


def register(config: RegistryConfig, adapter: Path, merged: Path, evidence: Path, output: Path) -> Registration:
    """Upload the files, then create the version with its tags, then move the alias: in that order.

    So a reader never finds an alias without tags, nor a version without files. Killed at any point and run again, it
    continues and ends with one version for the same content. Where the version exists already, its rendered pages
    and the tag of their digest are replaced.

    Raises:
        ValidationError: the verdict is not promote, does not follow from the findings, or is of other files.
        StorageError: the object store or the registry cannot be reached or refuses.
    """
    bundle = Evidence.load(evidence)
    if bundle.verdict.verdict != "promote":
        raise ValidationError(
            f"the verdict is {bundle.verdict.verdict!r}: only a promoted model is registered. "
            f"Its reasons: {'; '.join(bundle.verdict.reasons)}"
        )
    with tempfile.TemporaryDirectory() as folder:
        files = _collect(bundle, adapter, merged, evidence, Path(folder))
        listed = _digest_files(files)
        _require_proof(bundle, listed)
        url = f"s3://{config.bucket}/models/{config.model_name}/{listed.digest}"
        _upload(files, listed, url, Path(folder))
        registration = _register_version(config.model_name, url, evidence_tags(bundle, listed), Path(folder))
    registration.save(output)
    progress.headline(f"{config.model_name} version {registration.version}, @{CHALLENGER}")
    return registration


def _collect(bundle: Evidence, adapter: Path, merged: Path, evidence: Path, folder: Path) -> dict[str, Path]:
    """All files to upload, by their path in the store. The page and the card are rendered into `folder`."""
    shutil.copytree(evidence, folder / "evidence")
    (folder / PAGE).write_text(render_run_page(bundle), encoding="utf-8")
    (folder / CARD).write_text(render_model_card(bundle), encoding="utf-8")
    parts = {"adapter": adapter, "merged": merged, "evidence": folder / "evidence"}
    files = {
        f"{part}/{path.relative_to(root).as_posix()}": path
        for part, root in parts.items()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    return {**files, CARD: folder / CARD}


def _digest_files(files: dict[str, Path]) -> FileList:
    listed = {}
    for done, (name, path) in enumerate(files.items()):
        listed[name] = StoredFile(size=path.stat().st_size, sha256=digest_file(path))
        progress.advance(done + 1, len(files), "files digested")
    return FileList(files=listed)


def _require_proof(bundle: Evidence, listed: FileList) -> None:
    """Refuse a model that could not be promoted afterwards."""
    failed = [f"{check.name}: {check.detail}" for check in check_evidence(bundle, listed) if not check.passed]
    if failed:
        raise ValidationError(f"the evidence does not prove these files: {'; '.join(failed)}. Run the pipeline again.")


def _upload(files: dict[str, Path], listed: FileList, url: str, folder: Path) -> None:
    """Upload the files that are not stored yet, and then their list. The card goes first: it creates the bucket."""
    storage.upload(files[CARD], f"{url}/{CARD}")
    prefix = storage.S3Url.parse(url).key + "/"
    stored = {item.key.removeprefix(prefix): item for item in storage.list_objects(url)}
    for done, (name, path) in enumerate(files.items()):
        if name not in stored or not _is_same(path, stored[name]):
            storage.upload(path, f"{url}/{name}")
        progress.advance(done + 1, len(files), "files uploaded")
    (folder / FILE_LIST).write_text(listed.model_dump_json(indent=2) + "\n", encoding="utf-8")
    storage.upload(folder / FILE_LIST, f"{url}/{FILE_LIST}")


def _is_same(path: Path, stored: storage.StoredObject) -> bool:
    """Whether an object has a file's bytes: by its size, and by its ETag where that is an MD5.

    The ETag of a multipart upload is no MD5; there the address, which is named after the content, has to do.
    """
    if stored.size != path.stat().st_size:
        return False
    if len(stored.etag) != 32:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == stored.etag


def _register_version(name: str, url: str, tags: dict[str, str], folder: Path) -> Registration:
    """Create the version with its tags unless it exists, then move the alias."""
    client = tracking.connect()
    run = tracking.parent_run()
    run_tags = _run_tags(run.run_id())
    with errors_named(f"registering {name}"):
        _create_model(client, name)
        if not _versions_of(client, name, url):
            client.create_model_version(name, url, run_id=run.run_id() or None, tags=tags | run_tags)
        # A request that timed out and was sent again may have created two.
        version, *others = _versions_of(client, name, url)
        for other in others:
            client.delete_model_version(name, other.version)
        _mark_registered(version, url, folder)
        tags = run_tags | _run_tags_of(version) | tags
        for key, value in tags.items():
            if version.tags.get(key) != value:
                client.set_model_version_tag(name, version.version, key, value)
        client.set_registered_model_alias(name, CHALLENGER, version.version)
    run.close()
    return Registration(
        model_name=name,
        version=str(version.version),
        alias=CHALLENGER,
        url=url,
        digest=url.rsplit("/", 1)[-1],
        tags=tags,
    )


def _run_tags_of(version: ModelVersion) -> dict[str, str]:
    """The tags of the run that created the version; a later run with the same content does not replace them."""
    return {tag: version.tags[tag] for tag in RUN_TAGS if tag in version.tags}


def _mark_registered(version: ModelVersion, url: str, folder: Path) -> None:
    """Mark the files as registered, so that `clean` with another registry does not remove them as incomplete."""
    mark = {"model_name": version.name, "version": str(version.version)}
    (folder / REGISTERED).write_text(json.dumps(mark) + "\n", encoding="utf-8")
    storage.upload(folder / REGISTERED, f"{url}/{REGISTERED}")


def _run_tags(mlflow_run: str) -> dict[str, str]:
    """The run that registers, and the images of its steps if the environment names them."""
    values = (mlflow_run, *(os.environ.get(name, "") for name in _RUN_VARIABLES))
    return {tag: value for tag, value in zip(RUN_TAGS, values, strict=True) if value}


def _versions_of(client: MlflowClient, name: str, url: str) -> list[ModelVersion]:
    """The versions with these files, oldest first: by their address, which is named after the content."""
    versions = client.search_model_versions(f"name = '{name}'")
    return sorted((version for version in versions if version.source == url), key=lambda version: int(version.version))


def _create_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
