"""Checkpoints: saved training state from which a run that is started again resumes.

Checkpoints are stored under a key that is a digest of all that the result depends on, so that a run resumes its own
work only. A checkpoint is one object whose name holds the digest of its content: a partial one is not used.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from loraline import progress, storage
from loraline.data.rows import Row
from loraline.identity.digests import digest_folder, json_digest
from loraline.identity.step_identity import step_identity
from loraline.models.folder import read_manifest
from loraline.training.config import TrainConfig

_WITHOUT_EFFECT = {"nodes", "save_minutes", "save_steps"}

Checkpoint = dict[str, Any]
"""The content of a checkpoint, as `torch.load` reads it with `weights_only`."""

_MAX_CHECKPOINTS = 2  # the newest, and the one before it in case the newest is corrupt


def run_key(config: TrainConfig, model: Path, rows: list[Row]) -> str:
    """Digest of all that the adapter depends on: settings, base, rows, the training code and its libraries.

    The number of nodes is not included: it changes the order in which floats are added and, with dropout, the
    dropout masks. So a run can resume from its checkpoint on more nodes, or fewer, than it started on. Nor is how often
    it saves.
    """
    manifest = read_manifest(model)
    base = [manifest.digest or digest_folder(model), manifest.quantization, manifest.compute_dtype]
    base += [manifest.device, manifest.attention]
    identity = step_identity("train_lora").digest
    return json_digest([config.model_dump(exclude=_WITHOUT_EFFECT), base, [row.id for row in rows], identity])


class CheckpointStore:
    """The checkpoints of one run, in a local folder or under an `s3://` address.

    A store that is away never stops a training that runs: that a checkpoint is not saved is told. When a training
    begins, it is waited for, because only a store that was looked into can say that there is none to resume from.
    """

    def __init__(self, location: str, key: str) -> None:
        """Make the store of one run.

        Args:
            location: folder or `s3://bucket/prefix` for the checkpoints of all runs. Empty: nothing is saved.
            key: digest of all that the run's result depends on.
        """
        is_s3 = location.startswith("s3://")
        self._backend: _Backend = (
            _S3Backend(f"{location.rstrip('/')}/{key}") if is_s3 else _FolderBackend(Path(location) / key)
        )
        self._enabled = bool(location)
        self._warned = False

    def save(self, step: int, checkpoint: Checkpoint) -> bool:
        """Save a checkpoint after a step, and remove old ones; return whether that was done."""
        if not self._enabled:
            return True
        try:
            with self._backend.scratch() as file:
                torch.save(checkpoint, file)
                self._backend.put(file, f"{step:09d}-{_digest(file)}.pt")
            for name in sorted(self._backend.names())[:-_MAX_CHECKPOINTS]:
                self._backend.remove(name)
        except OSError as error:
            if not self._warned:
                progress.note(f"step {step} is not saved: {error}; training goes on, and saving is tried again")
            self._warned = True
            return False
        self._warned = False
        return True

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is not corrupt, with its tensors on the CPU; None where there is none.

        Raises:
            StorageError: the store refuses, or is still away after a quarter of an hour.
        """
        return storage.when_it_answers(self._latest) if self._enabled else None

    def _latest(self) -> Checkpoint | None:
        for name in sorted(self._backend.names(), reverse=True):
            with self._backend.fetch(name) as file:
                if name.endswith(f"-{_digest(file)}.pt"):
                    return dict(torch.load(file, map_location="cpu", weights_only=True))
            progress.note(f"the checkpoint {name} is corrupt and not used")
        return None


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]


class _Backend(Protocol):
    """Where checkpoints are kept, by name. Methods raise OSError."""

    def names(self) -> list[str]:
        """Names of all checkpoints; none only where the place was looked into, or does not exist."""

    def fetch(self, name: str) -> AbstractContextManager[Path]:
        """A file with the content of a checkpoint, in the context."""

    def scratch(self) -> AbstractContextManager[Path]:
        """A path for a file that `put` will take, in the context."""

    def put(self, file: Path, name: str) -> None:
        """Keep a file as a checkpoint, whole or not at all."""

    def remove(self, name: str) -> None:
        """Remove a checkpoint."""


class _FolderBackend:
    """Checkpoints as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._folder) if name.endswith(".pt")]
        except FileNotFoundError:
            return []

    @contextmanager
    def fetch(self, name: str) -> Iterator[Path]:
        yield self._folder / name

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        yield self._folder / "unfinished.tmp"  # always the same, so that kills leave one behind at most

    def put(self, file: Path, name: str) -> None:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        file.replace(self._folder / name)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


class _S3Backend:
    """Checkpoints as objects."""

    def __init__(self, url: str) -> None:
        self._url = url

    def names(self) -> list[str]:
        return [item.key.rsplit("/", 1)[-1] for item in storage.list_objects(self._url, missing_bucket_ok=True)]

    @contextmanager
    def fetch(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="loraline-") as folder:
            yield storage.download(f"{self._url}/{name}", Path(folder))[0]

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="loraline-") as folder:
            yield Path(folder) / "checkpoint.pt"

    def put(self, file: Path, name: str) -> None:
        storage.upload(file, f"{self._url}/{name}")

    def remove(self, name: str) -> None:
        storage.remove(f"{self._url}/{name}")
