"""Checkpoints: saved training state from which a run that is started again resumes.

Checkpoints are stored under a key that is a digest of all that the result depends on, so that a run resumes its own
work only. A checkpoint is one object whose name holds the digest of its content: a partial one is not used.
"""

import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from loraline import progress, storage
from loraline.data.rows import Row
from loraline.identity.digests import digest_folder, json_digest
from loraline.identity.step_identity import step_identity
from loraline.models.folder import read_manifest
from loraline.training.config import TrainConfig

Checkpoint = dict[str, Any]
"""The content of a checkpoint, as `torch.load` reads it with `weights_only`."""

_MAX_CHECKPOINTS = 2  # the newest, and the one before it in case the newest is corrupt


def run_key(config: TrainConfig, model: Path, rows: list[Row]) -> str:
    """Digest of all that the adapter depends on: settings, base, rows, the training code and its libraries.

    The number of nodes is not included: it changes the order in which floats are added and, with dropout, the
    dropout masks. So a run can resume from its checkpoint on more nodes, or fewer, than it started on.
    """
    manifest = read_manifest(model)
    base = [manifest.digest or digest_folder(model), manifest.quantization, manifest.compute_dtype]
    base += [manifest.device, manifest.attention]
    identity = step_identity("train_lora").digest
    return json_digest([config.model_dump(exclude={"nodes"}), base, [row.id for row in rows], identity])


class CheckpointStore:
    """The checkpoints of one run, in a local folder or under an `s3://` address.

    A store that cannot be reached never stops training: a note is printed once, and the next checkpoint tries again.
    """

    def __init__(self, location: str, key: str) -> None:
        """Make the store of one run.

        Args:
            location: folder or `s3://bucket/prefix` for the checkpoints of all runs. Empty: nothing is saved.
            key: digest of all that the run's result depends on.
        """
        is_s3 = location.startswith("s3://")
        self._backend = _S3Backend(f"{location.rstrip('/')}/{key}") if is_s3 else _FolderBackend(Path(location) / key)
        self._enabled = bool(location)
        self._warned = False

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Save a checkpoint after a step, and remove old ones."""
        if not self._enabled:
            return
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getvalue()
        try:
            self._backend.write(f"{step:09d}-{_digest(content)}.pt", content)
            for name in sorted(self._backend.names())[:-_MAX_CHECKPOINTS]:
                self._backend.remove(name)
        except OSError as error:
            self._warn(f"step {step} is not saved", error)

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is not corrupt, with its tensors on the CPU."""
        if not self._enabled:
            return None
        try:
            for name in sorted(self._backend.names(), reverse=True):
                content = self._backend.read(name)
                if name.endswith(f"-{_digest(content)}.pt"):
                    return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
                progress.note(f"the checkpoint {name} is corrupt and not used")
        except OSError as error:
            self._warn("training starts from the beginning", error)
        return None

    def _warn(self, consequence: str, error: OSError) -> None:
        if not self._warned:
            progress.note(f"checkpoints cannot be reached, {consequence}; training goes on: {error}")
        self._warned = True


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


class _FolderBackend:
    """Checkpoints as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        return [path.name for path in self._folder.glob("*.pt")]

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f"{name}.{os.getpid()}.tmp"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / name)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


class _S3Backend:
    """Checkpoints as objects."""

    def __init__(self, url: str) -> None:
        self._url = url

    def names(self) -> list[str]:
        return [item.key.rsplit("/", 1)[-1] for item in storage.list_objects(self._url, missing_bucket_ok=True)]

    def read(self, name: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return storage.download(f"{self._url}/{name}", Path(folder))[0].read_bytes()

    def write(self, name: str, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            file.write_bytes(content)
            storage.upload(file, f"{self._url}/{name}")

    def remove(self, name: str) -> None:
        storage.remove(f"{self._url}/{name}")
