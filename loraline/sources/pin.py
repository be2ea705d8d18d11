"""To pin is to name the bytes behind a name: what fetches them again, and a digest that changes when they do.

Pinning is cheap, because every run begins with it.
"""

import re
from dataclasses import dataclass

from loraline import storage
from loraline.errors import ModelLoadingError
from loraline.identity import digests

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A commit of the Hub, which needs no pinning."""


@dataclass(frozen=True)
class Pin:
    """The bytes behind a name.

    revision: what fetches them again: a commit of the Hub, a version of the registry, else empty.
    digest: changes when the bytes change.
    """

    revision: str
    digest: str


def digest_at_s3(url: str) -> str:
    """Digest of what lies under an address: keys, sizes and the tags that the server gives to contents.

    Raises:
        StorageError: nothing is there, or the store does not answer.
    """
    found = storage.list_objects(url)
    if not found:
        raise ModelLoadingError(f"there is nothing at {url}; check bucket and prefix")
    return digests.digest_pairs((item.key, f"{item.etag} {item.size}") for item in found)
