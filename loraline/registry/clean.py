"""Garbage collection: old candidates without an alias, old checkpoints and incomplete registrations."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from loraline import progress, storage, tracking
from loraline.registry.files import REGISTERED
from loraline.registry.tags import DIGEST_TAG
from loraline.registry.versions import errors_named, registered_model_aliases
from loraline.storage import StoredObject
from loraline.tracking import mlflow_runs

# Checkpoints and uploads of an interrupted run are kept this long, for the run to be resumed.
_RESUMABLE_FOR = timedelta(days=7)
# A run that started earlier and still counts as running has crashed: no step's timeout is as long, with its retries.
_MAX_RUN_TIME = timedelta(days=14)

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass
class Cleaning:
    """What was removed, or would be in a dry run."""

    versions: list[str] = field(default_factory=list)
    """Model versions, as name/number."""
    checkpoints: list[str] = field(default_factory=list)
    """URLs of checkpoints."""
    uploads: list[str] = field(default_factory=list)
    """URLs of incomplete registrations."""
    size: int = 0
    """Bytes freed in the object store."""
    running: list[str] = field(default_factory=list)
    """Running runs, because of which nothing was removed."""


def clean(bucket: str, keep: int = 3, dry_run: bool = False, now: datetime | None = None) -> Cleaning:
    """Remove old candidates, checkpoints and incomplete registrations of a bucket.

    Versions with an alias are kept, and the `keep` newest of the others. Checkpoints, and files of a model that never
    became a version, are kept for a week after the last write. While a run is running nothing is removed, because it is
    not known which version is its base, or which checkpoint it will resume from.

    Args:
        bucket: the recipes' `registry.bucket`. Objects that Loraline did not write are not touched.
        keep: how many versions without an alias to keep of each model, newest first.
        dry_run: list what would be removed, and remove nothing.
        now: the current time, for tests.

    Raises:
        StorageError: registry or store cannot be reached. Whatever was removed until then was removed completely.
    """
    now = now or datetime.now(UTC)
    client = tracking.connect()
    done = Cleaning()
    with errors_named("looking for runs that are running"):
        done.running = [str(run.info.run_name) for run in mlflow_runs.running(client, now - _MAX_RUN_TIME)]
    if done.running:
        progress.headline(f"nothing removed: {', '.join(done.running)} still running")
        return done
    with errors_named("listing model versions"):
        versions = _versions(client)
    for version in _expired_versions(client, versions, f"s3://{bucket}/models/", keep):
        done.versions.append(f"{version.name}/{version.version}")
        done.size += _remove_version(client, version, versions, dry_run)
    for removed, folders in (
        (done.checkpoints, _old_checkpoints(bucket, now)),
        (done.uploads, _incomplete_uploads(bucket, versions, now)),
    ):
        for url, objects in folders:
            removed.append(url)
            done.size += _total(objects)
            if not dry_run:
                storage.remove(url)
    return done


def _versions(client: MlflowClient) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(page_token=token or None)
        found.extend(page)
        token = page.token or None
    return found


def _expired_versions(client: MlflowClient, versions: list[ModelVersion], under: str, keep: int) -> list[ModelVersion]:
    """Versions under a URL that have no alias, without the `keep` newest of each model."""
    models: defaultdict[str, list[ModelVersion]] = defaultdict(list)
    for version in versions:
        if str(version.source).startswith(under) and DIGEST_TAG in version.tags:
            models[version.name].append(version)
    expired = []
    for name, of_model in sorted(models.items()):
        with_alias = {str(number) for number in registered_model_aliases(client, name).values()}
        others = [version for version in of_model if str(version.version) not in with_alias]
        others.sort(key=lambda version: int(version.version))
        expired += others[: max(0, len(others) - keep)]
    return expired


def _remove_version(client: MlflowClient, version: ModelVersion, all_versions: list[ModelVersion], dry: bool) -> int:
    """Remove a version, then its files, so that no version is ever without files; return the bytes freed."""
    url, number = str(version.source), str(version.version)
    is_shared = sum(other.source == url for other in all_versions) > 1
    objects = [] if is_shared else storage.list_objects(url)
    if dry:
        return _total(objects)
    # Look up the aliases again: the version may have been promoted in the meantime.
    if number in map(str, registered_model_aliases(client, version.name).values()):
        return 0
    if objects:  # interrupted after the next line, the files are later removed as an incomplete registration
        storage.remove(f"{url}/{REGISTERED}")
    with errors_named(f"removing version {number} of {version.name}"):
        client.delete_model_version(version.name, number)
    if objects:
        storage.remove(url)
    return _total(objects)


def _old_checkpoints(bucket: str, now: datetime) -> list[tuple[str, list[StoredObject]]]:
    """URL and objects of each training whose last checkpoint is old."""
    return [(url, objects) for url, objects in _folders(bucket, "checkpoints", 1) if _is_old(objects, now)]


def _incomplete_uploads(
    bucket: str, versions: list[ModelVersion], now: datetime
) -> list[tuple[str, list[StoredObject]]]:
    """URL and objects of each model folder without a version and without registered.json.

    Another registry may use the same store, so files with registered.json are kept even if this one has no version.
    """
    sources = [str(version.source) for version in versions]
    return [
        (url, objects)
        for url, objects in _folders(bucket, "models", 2)
        if _DIGEST.fullmatch(url.rsplit("/", 1)[-1])
        and _is_old(objects, now)
        and not any(item.key.endswith(f"/{REGISTERED}") for item in objects)
        and not any(source == url or source.startswith(f"{url}/") for source in sources)
    ]


def _folders(bucket: str, top: str, depth: int) -> list[tuple[str, list[StoredObject]]]:
    """URL and objects of the folders at a depth below a top folder of the bucket."""
    folders: defaultdict[str, list[StoredObject]] = defaultdict(list)
    for item in storage.list_objects(f"s3://{bucket}/{top}", missing_bucket_ok=True):
        parts = item.key.split("/")
        if len(parts) > depth + 1:
            folders["/".join(parts[: depth + 1])].append(item)
    return [(f"s3://{bucket}/{key}", objects) for key, objects in sorted(folders.items())]


def _is_old(objects: list[StoredObject], now: datetime) -> bool:
    return all(item.modified and item.modified < now - _RESUMABLE_FOR for item in objects)


def _total(objects: Iterable[StoredObject]) -> int:
    return sum(item.size for item in objects)
