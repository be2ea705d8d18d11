"""What MLflow's model registry holds of a model: versions, their tags and aliases, and the files behind them.

A version's source is a folder in the object store named after its content: adapter/, merged/, evidence/,
README.md, and files.json, which lists the others with size and digest and is written last.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict
from pydantic import ValidationError as PydanticError

from components.shared import storage, tracking
from components.shared.digests import digest_file, digest_pairs
from components.shared.errors import StorageError, ValidationError
from components.shared.evidence import FILE as EVIDENCE_FILE
from components.shared.evidence import Evidence, read_evidence

CHALLENGER = "challenger"
"""The newest version that passed the gate."""
CHAMPION = "champion"
"""The version that is in use."""
PREVIOUS = "previous"
"""The version that was the champion before."""

DIGEST_TAG = "content_digest"
VERDICT_TAG = "verdict"
FILE_LIST = "files.json"
EVIDENCE_PATH = f"evidence/{EVIDENCE_FILE}"


class StoredFile(BaseModel):
    """A file of a registered model."""

    model_config = ConfigDict(frozen=True)

    size: int
    """Bytes."""
    sha256: str


class FileList(BaseModel):
    """files.json: every other file of a registered model, by its path."""

    model_config = ConfigDict(frozen=True)

    files: dict[str, StoredFile]

    @property
    def digest(self) -> str:
        """The content digest: sha256 over the names and bytes of the files."""
        return digest_pairs((name, file.sha256) for name, file in self.files.items())


@contextmanager
def errors_named(what: str) -> Iterator[None]:
    """Turn MLflow's errors into ours.

    Raises:
        StorageError: MLflow is away, or refuses.
    """
    try:
        yield
    except MlflowException as error:
        first_line = str(error).strip().split("\n")[0][:300]
        raise StorageError(f"{what} failed at {tracking.tracking_uri()}: {first_line}") from error


def version_with_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version that an alias points at, if there is one.

    Raises:
        StorageError: there is no such model.
    """
    aliases = {key: str(value) for key, value in registered_model_aliases(client, name).items()}
    if alias not in aliases:
        return None
    with errors_named(f"reading version {aliases[alias]} of {name}"):
        return client.get_model_version(name, aliases[alias])


def registered_model_aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Alias to version number.

    Raises:
        StorageError: there is no such model, or MLflow is away.
    """
    try:
        return dict(client.get_registered_model(name).aliases)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            with errors_named(f"reading the registered model {name}"):
                raise
        raise StorageError(
            f"there is no registered model {name!r} at {tracking.tracking_uri()}; a run that is promoted makes it"
        ) from error


def checked_evidence(version: ModelVersion) -> Evidence:
    """Fetch the evidence of a version, after seeing that its files are those that were registered.

    Every file must be there in its size, the list of their digests must come to the version's content
    digest, and the evidence must have the digest that the list says. The weights are not read.

    Raises:
        ValidationError: a file is missing or altered, or the evidence does not say promote.
        StorageError: the store is away.
    """
    what = f"version {version.version} of {version.name} ({version.source})"
    with tempfile.TemporaryDirectory() as folder:
        listed = _file_list(version, what, Path(folder))
        _check_presence(version, what, listed)
        storage.download(f"{version.source}/{EVIDENCE_PATH}", Path(folder))
        return _check_evidence(Path(folder), what, listed)


def _file_list(version: ModelVersion, what: str, folder: Path) -> FileList:
    if not storage.list_objects(f"{version.source}/{FILE_LIST}"):
        raise ValidationError(f"{what} has no {FILE_LIST}: its files are gone, or were not written by Loraline")
    [path] = storage.download(f"{version.source}/{FILE_LIST}", folder)
    try:
        listed = FileList.model_validate_json(path.read_bytes())
    except PydanticError as error:
        raise ValidationError(f"the {FILE_LIST} of {what} is not a list of files: {error}") from error
    tagged = version.tags.get(DIGEST_TAG, "")
    if listed.digest != tagged:
        raise ValidationError(
            f"the files of {what} come to the digest {listed.digest}, but the version was registered with "
            f"{tagged or 'none'}: {FILE_LIST} was altered. Register the model again."
        )
    return listed


def _check_presence(version: ModelVersion, what: str, listed: FileList) -> None:
    prefix = storage.S3Url.parse(str(version.source)).key + "/"
    sizes = {item.key.removeprefix(prefix): item.size for item in storage.list_objects(str(version.source))}
    odd = [f"{name} is missing" for name in listed.files if name not in sizes] + [
        f"{name} has {sizes[name]} bytes instead of {file.size}"
        for name, file in listed.files.items()
        if name in sizes and sizes[name] != file.size
    ]
    if EVIDENCE_PATH not in listed.files:
        odd.insert(0, f"{EVIDENCE_PATH} is not among its files")
    if odd:
        raise ValidationError(f"{what} is incomplete or altered: {'; '.join(odd[:5])}. Register the model again.")


def _check_evidence(folder: Path, what: str, listed: FileList) -> Evidence:
    found = digest_file(folder / EVIDENCE_FILE)
    if found != listed.files[EVIDENCE_PATH].sha256:
        raise ValidationError(
            f"the evidence of {what} was altered: its digest is {found} instead of "
            f"{listed.files[EVIDENCE_PATH].sha256}. Register the model again."
        )
    evidence = read_evidence(folder)
    if evidence.verdict.verdict != "promote":
        raise ValidationError(f"the evidence of {what} says {evidence.verdict.verdict}, not promote")
    return evidence
