"""Pin datasets: resolve a source to a revision and a content digest."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from loraline.data.source_address import SourceAddress
from loraline.errors import ConfigurationError, DatasetError, ModelLoadingError
from loraline.identity import digests
from loraline.quickstart.builtin_datasets import SCHEME as BUILTIN
from loraline.quickstart.builtin_datasets import builtin_digest
from loraline.sources import hub
from loraline.sources.pin import COMMIT, Pin, digest_at_s3


def pin_dataset(source: str, revision: str = "", subset: str = "", split: str = "") -> Pin:
    """Pin a dataset by its source, as in `data.source`.

    Raises:
        DatasetError: the dataset does not exist, or the Hub cannot be reached.
        StorageError: the object store cannot be reached.
    """
    if source.startswith(BUILTIN):
        return Pin("", builtin_digest(source))
    if source.startswith("hf://"):
        commit = revision if COMMIT.fullmatch(revision) else hub.dataset_commit(source[5:], revision)
        return Pin(commit, hashlib.sha256(f"{source}\n{commit}\n{subset}\n{split}".encode()).hexdigest())
    if revision:
        raise ConfigurationError(
            f"the revision {revision!r} is set, but {source!r} has no revisions; only hf:// datasets have. Remove the "
            "setting (data.revision, data.eval_revision, data.general_revision, or that of an entry)"
        )
    if source.startswith("s3://"):
        try:
            return Pin("", digest_at_s3(source))
        except ModelLoadingError as error:
            raise DatasetError(str(error)) from error
    path = Path(source).expanduser()
    if path.is_dir():
        return Pin("", digests.digest_folder(path))
    if not path.is_file():
        raise DatasetError(f"{source!r} does not exist: no such file or folder; check the path in the recipe")
    return Pin("", digests.digest_pairs([(path.name, digests.digest_file(path))]))


def pin_datasets(sources: Mapping[str, SourceAddress]) -> tuple[dict[str, str], str]:
    """Pin several datasets: the revision of each by its key in `sources`, and one digest of all.

    Args:
        sources: where they are, by any key.

    Raises:
        DatasetError, StorageError: as `pin_dataset`.
    """
    pins = {name: pin_dataset(*source) for name, source in sources.items()}
    digest = hashlib.sha256("\n".join(f"{name} {pin.digest}" for name, pin in pins.items()).encode()).hexdigest()
    return {name: pin.revision for name, pin in pins.items()}, digest


def check_datasets(sources: Mapping[str, SourceAddress], pinned: str) -> None:
    """Check that datasets still have the digest that they were pinned with.

    Raises:
        DatasetError: a dataset changed.
    """
    _, digest = pin_datasets(sources)
    if digest != pinned:
        names = ", ".join(dict.fromkeys(address.source for address in sources.values()))
        raise DatasetError(
            f"the data at {names} changed during the run: the digest was {pinned} at its start, and is {digest} now. "
            "Start the run again with the new data, or restore the old."
        )
