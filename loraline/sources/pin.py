"""Pins: the revision and digest of a model or dataset at this moment.

Pinning reads no more than it must, because every run begins with it.
"""

import re
from dataclasses import dataclass

from loraline import storage
from loraline.errors import ModelLoadingError
from loraline.identity import digests

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A full commit hash of the Hub, which is pinned already."""


@dataclass(frozen=True)
class Pin:
    """The content that a source's name refers to."""

    revision: str
    """What fetches the same content again: a commit of the Hub, a version of the model registry; else empty."""
    digest: str
    """Changes when the content changes."""


def digest_at_s3(url: str) -> str:
    """Digest of the objects under a prefix: their keys, sizes and ETags.

    Raises:
        ModelLoadingError: there are none.
        StorageError: the object store does not answer.
    """
    objects = storage.list_objects(url)
    if not objects:
        raise ModelLoadingError(f"there is nothing at {url}; check bucket and prefix")
    return digests.digest_pairs((item.key, f"{item.etag} {item.size}") for item in objects)
