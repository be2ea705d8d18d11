"""The sources that a base model can come from, and how each is pinned and fetched.

A source is a local folder, `s3://bucket/prefix`, a Hub id, `models:/name@alias` in the model registry, or
`scratch:dates`, which is made here. A GGUF file (a local one, in the object store, or `owner/repository/file.gguf` on
the Hub) becomes an ordinary model folder where it is fetched.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loraline import storage
from loraline.errors import ConfigurationError, ModelLoadingError
from loraline.identity import digests
from loraline.models import model_files
from loraline.models.model_files import CODE, CONFIG, GGUF_SUFFIX, IGNORED, POLICY, TOKENIZER, WEIGHTS
from loraline.quickstart import scratch_model
from loraline.sources import gguf_source, hub
from loraline.sources.pin import COMMIT, Pin, digest_at_s3
from loraline.sources.registry_address import RegistryAddress

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_GGUF = re.compile(rf"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/(?P<file>[\w.-]+{GGUF_SUFFIX})")


@dataclass(frozen=True)
class ModelSource:
    """A parsed `model.source`."""

    kind: Literal["folder", "s3", "hub", "registry", "scratch"]
    location: str
    """Path, URL, Hub id, registry address, or name of a scratch model."""
    gguf: str = ""
    """Name of the GGUF file at the location that the model is made from; empty for a model folder."""

    @property
    def is_model_folder(self) -> bool:
        """Whether the source is a model folder on this machine, which can be used in place."""
        return self.kind == "folder" and not self.gguf


def parse_model_source(source: str) -> ModelSource:
    """Parse a recipe's `model.source`.

    Raises:
        ConfigurationError: it has none of the known forms.
    """
    if source.startswith("scratch:"):
        name = source.removeprefix("scratch:")
        if name not in scratch_model.NAMES:
            raise ConfigurationError(f"model.source is {source!r}; available: {_scratch_names()}")
        return ModelSource("scratch", name)
    if source.startswith("s3://"):
        url = str(storage.S3Url.parse(source)).rstrip("/")
        return ModelSource("s3", *url.rsplit("/", 1)) if url.endswith(GGUF_SUFFIX) else ModelSource("s3", url)
    if RegistryAddress.matches(source):
        try:
            return ModelSource("registry", str(RegistryAddress.parse(source)))
        except ConfigurationError as error:
            raise ConfigurationError(f"model.source: {error}") from error
    path = Path(source).expanduser()
    hub_file = _HUB_GGUF.fullmatch(source)
    if path.exists() or source.startswith(("/", ".", "~")) or (path.suffix == GGUF_SUFFIX and not hub_file):
        return _local_source(path)
    if hub_file:
        return ModelSource("hub", hub_file["repository"], hub_file["file"])
    if _HUB_ID.fullmatch(source):
        return ModelSource("hub", source)
    raise ConfigurationError(
        f"model.source is {source!r}, which is neither a folder or GGUF file that exists, nor s3://bucket/prefix, nor "
        f"a Hub id (owner/model, or owner/model/file.gguf), nor models:/name@alias, nor {_scratch_names()}"
    )


def _local_source(path: Path) -> ModelSource:
    if path.suffix == GGUF_SUFFIX and not path.is_dir():
        return ModelSource("folder", str(path.parent), path.name)
    if path.is_file():
        raise ConfigurationError(
            f"model.source is the file {str(path)!r}; give a model folder, or a {GGUF_SUFFIX} file"
        )
    return ModelSource("folder", str(path), gguf_source.only_gguf(path))


def _scratch_names() -> str:
    return ", ".join(f"scratch:{name}" for name in scratch_model.NAMES)


def pin_model(source: str, revision: str = "") -> Pin:
    """Pin a base model to its present content.

    Raises:
        ConfigurationError: the source cannot be parsed, or has a revision that its kind does not have.
        ModelLoadingError: there is no model, or the Hub or the model registry does not answer.
        StorageError: the object store does not answer.
    """
    parsed = parse_model_source(source)
    if revision and parsed.kind not in ("hub", "registry"):
        raise ConfigurationError(
            f"model.revision is {revision!r}, but {source!r} has no revisions; only models of the Hub and of the model "
            "registry have"
        )
    if parsed.kind == "hub":
        commit = revision if COMMIT.fullmatch(revision) else _download_from_hub(parsed.location, revision, CONFIG).name
        return Pin(commit, f"{commit} {parsed.gguf}".strip())
    if parsed.kind == "scratch":
        return Pin("", scratch_model.digest(parsed.location))
    if parsed.kind == "folder":
        if parsed.gguf:
            return gguf_source.pin_gguf(Path(parsed.location, parsed.gguf), alone=source.endswith(GGUF_SUFFIX))
        files = _folder_files(Path(parsed.location), (*CONFIG, *WEIGHTS, *TOKENIZER, *CODE))
        return Pin("", digests.digest_pairs((path.name, digests.digest_file(path)) for path in files))
    if parsed.kind == "s3":
        return Pin("", digest_at_s3(f"{parsed.location}/{parsed.gguf}".rstrip("/")))
    version, url = registered_version(parsed.location, revision)
    return Pin(version, digest_at_s3(url))


def fetch_model(source: str, revision: str, folder: Path, remote_code: bool = False, policy: bool = False) -> None:
    """Fetch a model's configuration, safetensors weights and tokenizer into a folder, and verify that it is complete.

    Args:
        source: as in a recipe.
        revision: the revision of its pin.
        folder: is created where it does not exist.
        remote_code: also fetch the Python files that come with the model.
        policy: also fetch the safety policy that comes with the model, where it has one. A base to train on is
            fetched without: the trained model gets the policy of its own recipe.

    Raises:
        ModelLoadingError: the model cannot be fetched, or is not complete.
        StorageError: the object store does not answer.
    """
    patterns = (*CONFIG, *WEIGHTS, *TOKENIZER, *(CODE if remote_code else ()), *(POLICY if policy else ()))
    _fetch(source, revision, folder, patterns)
    model_files.verify_model(folder, source)


def fetch_tokenizer(source: str, revision: str, folder: Path) -> None:
    """Fetch a model's tokenizer and configuration into a folder, without its weights. Raises as `fetch_model`."""
    _fetch(source, revision, folder, (*CONFIG, *TOKENIZER))


def fetch_config(source: str, revision: str, folder: Path, remote_code: bool = False) -> None:
    """Fetch a model's configuration alone into a folder. Raises as `fetch_model`."""
    _fetch(source, revision, folder, (*CONFIG, *(CODE if remote_code else ())))


def _fetch(source: str, revision: str, folder: Path, patterns: tuple[str, ...]) -> None:
    parsed = parse_model_source(source)
    folder.mkdir(parents=True, exist_ok=True)
    if parsed.gguf:
        with _local_gguf(parsed, revision) as path:
            gguf_source.write_gguf(path, folder, patterns, alone=source.endswith(GGUF_SUFFIX))
    elif parsed.kind == "s3":
        _download_from_s3(parsed.location, folder, patterns)
    elif parsed.kind == "registry":
        _download_from_s3(registered_version(parsed.location, revision)[1], folder, patterns)
    elif parsed.kind == "hub":
        for path in _folder_files(_download_from_hub(parsed.location, revision, patterns), patterns):
            _link_or_copy(path, folder / path.name)
    elif parsed.kind == "scratch" and not set(WEIGHTS) <= set(patterns):
        scratch_model.save_tokenizer_and_config(folder)
    else:
        origin = scratch_model.train_or_load(parsed.location) if parsed.kind == "scratch" else Path(parsed.location)
        for path in _folder_files(origin, patterns):
            shutil.copyfile(path, folder / path.name)


@contextmanager
def _local_gguf(parsed: ModelSource, revision: str) -> Iterator[Path]:
    """The GGUF file of a source on this machine; one from the object store is gone afterwards."""
    if parsed.kind == "folder":
        yield Path(parsed.location, parsed.gguf)
    elif parsed.kind == "hub":
        yield _download_from_hub(parsed.location, revision, (parsed.gguf,)) / parsed.gguf
    else:
        with tempfile.TemporaryDirectory() as name:
            storage.download(f"{parsed.location}/{parsed.gguf}", Path(name))
            yield Path(name, parsed.gguf)


def _download_from_hub(repository: str, revision: str, patterns: tuple[str, ...]) -> Path:
    return hub.download_model(repository, revision, patterns, IGNORED)


def _folder_files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        raise ModelLoadingError(f"there is no model folder {folder}; give a folder that holds a config.json")
    return sorted(path for path in folder.iterdir() if path.is_file() and model_files.is_selected(path.name, patterns))


def _link_or_copy(origin: Path, target: Path) -> None:
    """Hard-link a file of the Hub's cache, whose files are never changed in place, or copy it."""
    try:
        os.link(origin.resolve(), target)
    except OSError:  # another file system
        shutil.copyfile(origin, target)


def _download_from_s3(url: str, folder: Path, patterns: tuple[str, ...]) -> None:
    prefix = storage.S3Url.parse(url).key + "/"
    names = [item.key.removeprefix(prefix) for item in storage.list_objects(url)]
    selected = [name for name in names if model_files.is_selected(name, patterns)]
    if not selected:
        raise ModelLoadingError(f"there is no model at {url}; give the prefix of the folder with its config.json")
    for name in selected:
        storage.download(f"{url}/{name}", folder)


def registered_version(location: str, version: str) -> tuple[str, str]:
    """A registered model's version, and the URL of its merged model."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    address = RegistryAddress.parse(location)
    version = version or address.version
    try:
        client = MlflowClient()
        registered = (
            client.get_model_version(address.name, version)
            if version
            else client.get_model_version_by_alias(address.name, address.alias)
        )
    except MlflowException as error:
        raise ModelLoadingError(
            f"the model registry at {os.environ.get('MLFLOW_TRACKING_URI', 'the default URI')} has no "
            f"{location}: {error.message}; set MLFLOW_TRACKING_URI, or list the registered models with `make ui`"
        ) from error
    url = str(registered.source)
    if not url.startswith("s3://"):
        raise ModelLoadingError(
            f"{location} is version {registered.version} with source {url!r}; only versions that Loraline "
            "registered, with files under s3://, can be a base"
        )
    return str(registered.version), url.rstrip("/") + "/merged"
