"""Folders on their way between the step and the nodes of its TrainJob, through the object store.

A folder lies under `<address>/files`, and `<address>/complete` is written last: without it nobody reads the folder.
"""

import tempfile
from pathlib import Path

from loraline import storage


def offer(folder: Path, address: str) -> None:
    """Put a folder at an address, unless it is there already. Raises StorageError."""
    if is_offered(address):
        return
    storage.upload(folder, f"{address}/files")
    with tempfile.TemporaryDirectory() as temporary:
        mark = Path(temporary) / "complete"
        mark.write_text("complete\n")
        storage.upload(mark, f"{address}/complete")


def is_offered(address: str) -> bool:
    """Whether a whole folder lies at an address. Raises StorageError."""
    return bool(storage.list_objects(f"{address}/complete", missing_bucket_ok=True))


def fetch(address: str, folder: Path) -> None:
    """Bring the folder at an address here. Raises StorageError."""
    storage.download(f"{address}/files", folder)
