"""Checkpoints: the state of training, where a run that is started again finds it.

They lie under a key that is a digest of all that the result depends on, so a run picks up its own work and nobody
else's. A checkpoint is one object, whose name holds its digest: it is there whole, or it is not used.
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
from loraline.identity.libraries import library_versions
from loraline.models.folder import read_manifest
from loraline.training.config import TrainConfig

State = dict[str, Any]
_KEPT = 2  # the newest, and the one before it in case the newest is broken


def run_key(config: TrainConfig, model: Path, rows: list[Row], code: str) -> str:
    """Digest of all that the adapter depends on.

    The number of machines is not of it: it changes the order in which floats are added up and, with dropout, its
    masks. So a run goes on from its checkpoint on more machines, or fewer, than it began on.
    """
    manifest = read_manifest(model).model_dump(exclude={"plan", "taken"})
    identity = manifest if manifest["digest"] else digest_folder(model)
    return json_digest(
        [config.model_dump(exclude={"nodes"}), identity, [row.id for row in rows], code, library_versions("train_lora")]
    )


class CheckpointStore:
    """A run's checkpoints, in a local folder or under an `s3://` address.

    A store that is away never stops training: it is said once, and tried again at the next checkpoint.
    """

    def __init__(self, where: str, key: str) -> None:
        """Make the store of one run.

        Args:
            where: folder or `s3://bucket/prefix` for checkpoints of all runs. Empty: nothing is kept.
            key: digest of all that the run's result depends on.
        """
        self._place = _S3(f"{where.rstrip('/')}/{key}") if where.startswith("s3://") else _Folder(Path(where) / key)
        self._wanted = bool(where)
        self._complained = False

    def save(self, step: int, state: State) -> None:
        """Keep the state after a step, and let go of old ones."""
        if not self._wanted:
            return
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        try:
            self._place.write(f"{step:09d}-{_digest(content)}.pt", content)
            for name in sorted(self._place.names())[:-_KEPT]:
                self._place.remove(name)
        except OSError as error:
            self._complain(f"step {step} is not kept", error)

    def latest(self) -> State | None:
        """The newest whole state that is kept, on the CPU."""
        if not self._wanted:
            return None
        try:
            for name in sorted(self._place.names(), reverse=True):
                content = self._place.read(name)
                if name.endswith(f"-{_digest(content)}.pt"):
                    return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
                progress.note(f"the checkpoint {name} is broken and not used")
        except OSError as error:
            self._complain("training starts from the beginning", error)
        return None

    def _complain(self, consequence: str, error: OSError) -> None:
        if not self._complained:
            progress.note(f"checkpoints cannot be reached, {consequence}; training goes on: {error}")
        self._complained = True


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


class _Folder:
    """Checkpoints as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        return [path.name for path in self._folder.glob("*.pt")]

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f"{name}.{os.getpid()}.tmp"
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._folder / name)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


class _S3:
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
