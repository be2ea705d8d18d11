"""A dataset's fingerprint: a hash of the content of its rows."""

import hashlib
from pathlib import Path

from loraline.artifacts.dataset_files import RowSet
from loraline.data.rows import stream_rows

_MODULUS = 1 << 256


class Fingerprint:
    """A hash of rows as a multiset: neither their order nor the files that they came from matter."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, row_set: RowSet, row_id: str) -> None:
        """Add a row of a set."""
        digest = hashlib.sha256(f"{row_set}:{row_id}".encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest)) % _MODULUS

    def hexdigest(self) -> str:
        """The fingerprint, 64 hexadecimal digits."""
        return f"{self._sum:064x}"


def fingerprint_of(path: Path, row_set: RowSet) -> str:
    """The fingerprint of one parquet file of rows."""
    fingerprint = Fingerprint()
    for row in stream_rows(path):
        fingerprint.add(row_set, row.id)
    return fingerprint.hexdigest()
