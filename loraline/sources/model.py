"""Where a base model or a dataset comes from: what lies there now, and how its files get here.

To pin is to name the bytes: the commit or version that a moving name stands for at this moment, and a digest
that changes when the bytes behind the name change. Pinning is cheap, because every run begins with it.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loraline import storage
from loraline.errors import ConfigurationError, ModelLoadingError
from loraline.identity import digests
from loraline.models import model_files
from loraline.models.model_files import CODE, CONFIG, NOT_THE_MODEL, POLICY, TOKENIZER, WEIGHTS
from loraline.quickstart import scratch
from loraline.sources import hub
from loraline.sources.pin import COMMIT, Pin, digest_at_s3
from loraline.sources.registry_address import RegistryAddress

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

Kind = Literal["folder", "s3", "hub", "registry", "scratch"]


@dataclass(frozen=True)
class ModelSource:
    """A model's source, understood: its kind, and the path, address, id or name that says which one."""

    kind: Kind
    location: str


def parse_model_source(source: str) -> ModelSource:
    """Understand a recipe's `model.source`.

    Raises:
        ConfigurationError: it is nothing that a model can come from.
    """
    if source.startswith("scratch:"):
        name = source.removeprefix("scratch:")
        if name not in scratch.NAMES:
            raise ConfigurationError(f"model.source is {source!r}; there is only {_scratch_names()}")
        return ModelSource("scratch", name)
    if source.startswith("s3://"):
        return ModelSource("s3", str(storage.S3Url.parse(source)).rstrip("/"))
    if RegistryAddress.matches(source):
        try:
            return ModelSource("registry", str(RegistryAddress.parse(source)))
        except ConfigurationError as error:
            raise ConfigurationError(f"model.source: {error}") from error
    path = Path(source).expanduser()
    if path.is_dir() or source.startswith(("/", ".", "~")):
        return ModelSource("folder", str(path))
    if _HUB_ID.fullmatch(source):
        return ModelSource("hub", source)
    raise ConfigurationError(
        f"model.source is {source!r}, which is neither a folder that exists, nor s3://bucket/prefix, nor a Hub id "
        f"(owner/model), nor models:/name@alias, nor {_scratch_names()}"
    )


def _scratch_names() -> str:
    return ", ".join(f"scratch:{name}" for name in scratch.NAMES)


def pin_model(source: str, revision: str = "") -> Pin:
    """Pin a base model.

    Raises:
        ConfigurationError: the source is not one, or has a revision that its kind does not have.
        ModelLoadingError: nothing is there, or the Hub or the registry does not answer.
        StorageError: the object store does not answer.
    """
    at = parse_model_source(source)
    if revision and at.kind not in ("hub", "registry"):
        raise ConfigurationError(
            f"model.revision is {revision!r}, but {source!r} has no revisions; only Hub models have"
        )
    if at.kind == "hub":
        commit = revision if COMMIT.fullmatch(revision) else _from_hub(at.location, revision, CONFIG).name
        return Pin(commit, commit)
    if at.kind == "scratch":
        return Pin("", scratch.digest(at.location))
    if at.kind == "folder":
        files = _folder_files(Path(at.location), (*CONFIG, *WEIGHTS, *TOKENIZER, *CODE))
        return Pin("", digests.digest_pairs((path.name, digests.digest_file(path)) for path in files))
    if at.kind == "s3":
        return Pin("", digest_at_s3(at.location))
    version, address = _registered(at.location, revision)
    return Pin(version, digest_at_s3(address))


def fetch_model(source: str, revision: str, folder: Path, remote_code: bool = False, policy: bool = False) -> None:
    """Bring a model's configuration, safetensors and tokenizer into a folder, and verify that all is there.

    Args:
        source: as in a recipe.
        revision: what `pin_model` found.
        folder: made where it does not exist.
        remote_code: also bring the Python files that come with the model.
        policy: also bring the safety policy that travels with the model, where it has one. A base to train on
            leaves it behind: what is trained gets the policy of its own recipe.

    Raises:
        ModelLoadingError: the model cannot be had, or is not whole.
        StorageError: the object store does not answer.
    """
    wanted = (*CONFIG, *WEIGHTS, *TOKENIZER, *(CODE if remote_code else ()), *(POLICY if policy else ()))
    _fetch(source, revision, folder, wanted)
    model_files.verify_model(folder, source)


def fetch_tokenizer(source: str, revision: str, folder: Path) -> None:
    """Bring a model's tokenizer and configuration into a folder, and not its weights. Raises as `fetch_model`."""
    _fetch(source, revision, folder, (*CONFIG, *TOKENIZER))


def fetch_config(source: str, revision: str, folder: Path, remote_code: bool = False) -> None:
    """Bring a model's configuration into a folder, and nothing else. Raises as `fetch_model`."""
    _fetch(source, revision, folder, (*CONFIG, *(CODE if remote_code else ())))


def _fetch(source: str, revision: str, folder: Path, patterns: tuple[str, ...]) -> None:
    at = parse_model_source(source)
    folder.mkdir(parents=True, exist_ok=True)
    if at.kind == "s3":
        _download(at.location, folder, patterns)
    elif at.kind == "registry":
        _download(_registered(at.location, revision)[1], folder, patterns)
    elif at.kind == "hub":
        for path in _folder_files(_from_hub(at.location, revision, patterns), patterns):
            _link_or_copy(path, folder / path.name)
    elif at.kind == "scratch" and not set(WEIGHTS) <= set(patterns):
        scratch.describe(folder)
    else:
        origin = scratch.make(at.location) if at.kind == "scratch" else Path(at.location)
        for path in _folder_files(origin, patterns):
            shutil.copyfile(path, folder / path.name)


def _from_hub(repository: str, revision: str, patterns: tuple[str, ...]) -> Path:
    return hub.model_files(repository, revision, patterns, NOT_THE_MODEL)


def _folder_files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        raise ModelLoadingError(f"there is no model folder {folder}; give a folder that holds a config.json")
    return sorted(path for path in folder.iterdir() if path.is_file() and model_files.wanted(path.name, patterns))


def _link_or_copy(origin: Path, target: Path) -> None:
    """Spare a second copy of the Hub's cache, whose files are never changed in place."""
    try:
        os.link(origin.resolve(), target)
    except OSError:  # another file system
        shutil.copyfile(origin, target)


def _download(url: str, folder: Path, patterns: tuple[str, ...]) -> None:
    prefix = storage.S3Url.parse(url).key + "/"
    names = [item.key.removeprefix(prefix) for item in storage.list_objects(url)]
    wanted = [name for name in names if model_files.wanted(name, patterns)]
    if not wanted:
        raise ModelLoadingError(f"there is no model at {url}; give the prefix under which its config.json lies")
    for name in wanted:
        storage.download(f"{url}/{name}", folder)


def _registered(location: str, version: str) -> tuple[str, str]:
    """A registered model's version, and the address of its merged weights."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    address = RegistryAddress.parse(location)
    version = version or address.version
    try:
        client = MlflowClient()
        found = (
            client.get_model_version(address.name, version)
            if version
            else client.get_model_version_by_alias(address.name, address.alias)
        )
    except MlflowException as error:
        raise ModelLoadingError(
            f"the model registry at {os.environ.get('MLFLOW_TRACKING_URI', 'the default place')} has no "
            f"{location}: {error.message}; set MLFLOW_TRACKING_URI, or look with `make ui` at what is registered"
        ) from error
    url = str(found.source)
    if not url.startswith("s3://"):
        raise ModelLoadingError(
            f"{location} is version {found.version} with source {url!r}; only versions that Loraline "
            "registered, with files under s3://, can be a base"
        )
    return str(found.version), url.rstrip("/") + "/merged"
