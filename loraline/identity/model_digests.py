"""Digests of the adapter and the merged model, which tie the evidence to the files that it was measured on.

The merge computes them from the folders that it compared, the registry from the list of a version's files. If they
differ, the evidence belongs to another model.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from loraline.artifacts.adapter_files import MASK_PAGE
from loraline.artifacts.merging import MergeReport
from loraline.identity.digests import digest_folder, digest_pairs
from loraline.models.model_files import POLICY_FILE

NOT_DIGESTED_IN_ADAPTER = frozenset({MASK_PAGE})
"""Files of an adapter that its digest leaves out: a page that is rendered from mask.json."""
NOT_DIGESTED_IN_MERGED = frozenset({MergeReport.FILE, POLICY_FILE})
"""Files of a merged model that its digest leaves out, because they are written after the parity check."""


def adapter_digest(folder: Path) -> str:
    """Digest of an adapter folder: weights, configuration and training reports."""
    return digest_folder(folder, without=NOT_DIGESTED_IN_ADAPTER)


def merged_digest(folder: Path) -> str:
    """Digest of a merged model folder: weights, configuration and tokenizer."""
    return digest_folder(folder, without=NOT_DIGESTED_IN_MERGED)


def digest_listed(files: Iterable[tuple[str, str]], without: frozenset[str] = frozenset()) -> str:
    """The same digest from a list of names and SHA-256 digests, without the files."""
    return digest_pairs(
        (name, digest)
        for name, digest in files
        if name not in without and not any(part.startswith(".") for part in PurePosixPath(name).parts)
    )
