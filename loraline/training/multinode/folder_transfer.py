"""Transfer of folders between the step and the nodes of its TrainJob, through the object store.

A folder is stored under `<url>/files`, and `<url>/complete` is written last: without it nobody reads the folder. A
store that is away is waited for.
"""

import tempfile
from pathlib import Path

from loraline import storage


def upload_folder(folder: Path, url: str) -> None:
    """Upload a folder, unless it is complete at the URL already. Raises StorageError."""
    storage.when_it_answers(lambda: _upload(folder, url))


def _upload(folder: Path, url: str) -> None:
    if is_uploaded(url):
        return
    storage.upload(folder, f"{url}/files")
    with tempfile.TemporaryDirectory() as temporary:
        marker = Path(temporary) / "complete"
        marker.write_text("complete\n")
        storage.upload(marker, f"{url}/complete")


def is_uploaded(url: str) -> bool:
    """Whether a complete folder is stored at a URL; asked once. Raises StorageError."""
    return bool(storage.list_objects(f"{url}/complete", missing_bucket_ok=True))


def download_folder(url: str, folder: Path) -> None:
    """Download the folder that is stored at a URL. Raises StorageError."""
    storage.when_it_answers(lambda: storage.download(f"{url}/files", folder))
