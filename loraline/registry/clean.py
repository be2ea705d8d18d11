"""Remove what nobody needs any more: candidates that never won, and what runs that are long over left half done."""

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

# A run that is stopped takes its checkpoint up again, and its upload; after this long nobody comes back to it.
_UNFINISHED_STAYS = timedelta(days=7)
# A run that began earlier has not ended properly: a cluster allows no step as long, with all its retries.
_LONGEST_RUN = timedelta(days=14)

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass
class Cleaning:
    """What was removed, or would be."""

    versions: list[str] = field(default_factory=list)
    """name/number of each model version."""
    checkpoints: list[str] = field(default_factory=list)
    """Address of each training's checkpoints."""
    uploads: list[str] = field(default_factory=list)
    """Address of each model whose registration never came to its end."""
    size: int = 0
    """Bytes in the object store."""
    running: list[str] = field(default_factory=list)
    """Runs for whose sake nothing was removed."""


def clean(bucket: str, keep: int = 3, dry_run: bool = False, now: datetime | None = None) -> Cleaning:
    """Remove old candidates, checkpoints and unfinished uploads of a bucket.

    A version of a model stays while any alias points at it, and while it is among the `keep` newest of the others.
    Checkpoints, and a model's files that never became a version, stay for a week after the last was written. While a
    run is running nothing goes: which version it has as its base, or what it is about to take up, cannot be told from
    outside.

    Args:
        bucket: the recipes' `registry.bucket`. What Loraline did not write there is not touched.
        keep: versions without an alias that stay, the newest, of each model.
        dry_run: say what would go, and remove nothing.
        now: the present, where it is not the clock's.

    Raises:
        StorageError: registry or store is away. What is removed by then is removed whole.
    """
    now = now or datetime.now(UTC)
    client = tracking.connect()
    done = Cleaning()
    with errors_named("looking for runs that are running"):
        done.running = [str(run.info.run_name) for run in mlflow_runs.running(client, now - _LONGEST_RUN)]
    if done.running:
        progress.headline(f"nothing removed: {', '.join(done.running)} still running")
        return done
    with errors_named("listing model versions"):
        versions = _versions(client)
    for version in _losers(client, versions, f"s3://{bucket}/models/", keep):
        done.versions.append(f"{version.name}/{version.version}")
        done.size += _remove_version(client, version, versions, dry_run)
    for found, remains in (
        (done.checkpoints, _old_checkpoints(bucket, now)),
        (done.uploads, _dead_uploads(bucket, versions, now)),
    ):
        for url, objects in remains:
            found.append(url)
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


def _losers(client: MlflowClient, versions: list[ModelVersion], under: str, keep: int) -> list[ModelVersion]:
    """The versions below an address that no alias points at, but the newest of each model."""
    models: defaultdict[str, list[ModelVersion]] = defaultdict(list)
    for version in versions:
        if str(version.source).startswith(under) and DIGEST_TAG in version.tags:
            models[version.name].append(version)
    losers = []
    for name, all_of_it in sorted(models.items()):
        with_alias = {str(number) for number in registered_model_aliases(client, name).values()}
        others = [version for version in all_of_it if str(version.version) not in with_alias]
        others.sort(key=lambda version: int(version.version))
        losers += others[: max(0, len(others) - keep)]
    return losers


def _remove_version(client: MlflowClient, version: ModelVersion, all_versions: list[ModelVersion], dry: bool) -> int:
    """Remove a version and then its files, so that nobody finds a version without files; gives the files' bytes."""
    url, number = str(version.source), str(version.version)
    is_shared = sum(other.source == url for other in all_versions) > 1
    objects = [] if is_shared else storage.list_objects(url)
    if dry:
        return _total(objects)
    # Looked up once more: somebody may have promoted it meanwhile.
    if number in map(str, registered_model_aliases(client, version.name).values()):
        return 0
    if objects:  # killed after the next line, the files are found again as an upload without a version
        storage.remove(f"{url}/{REGISTERED}")
    with errors_named(f"removing version {number} of {version.name}"):
        client.delete_model_version(version.name, number)
    if objects:
        storage.remove(url)
    return _total(objects)


def _old_checkpoints(bucket: str, now: datetime) -> list[tuple[str, list[StoredObject]]]:
    """Address and objects of each training whose last checkpoint is old."""
    return [(url, objects) for url, objects in _folders(bucket, "checkpoints", 1) if _is_old(objects, now)]


def _dead_uploads(bucket: str, versions: list[ModelVersion], now: datetime) -> list[tuple[str, list[StoredObject]]]:
    """Address and objects of each model's folder that no version points at, and that says of itself that none does.

    A registry may share its store with others: files that were registered anywhere are not taken for lost.
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
    """Address and objects of the folders that lie so deep below a folder of the bucket."""
    folders: defaultdict[str, list[StoredObject]] = defaultdict(list)
    for item in storage.list_objects(f"s3://{bucket}/{top}", missing_bucket_ok=True):
        parts = item.key.split("/")
        if len(parts) > depth + 1:
            folders["/".join(parts[: depth + 1])].append(item)
    return [(f"s3://{bucket}/{key}", objects) for key, objects in sorted(folders.items())]


def _is_old(objects: list[StoredObject], now: datetime) -> bool:
    return all(item.modified and item.modified < now - _UNFINISHED_STAYS for item in objects)


def _total(objects: Iterable[StoredObject]) -> int:
    return sum(item.size for item in objects)
