"""Which bytes the evidence speaks of: the digests of adapter and merged model that it names.

The merge computes them from the folders that it compared. The registry computes them from the list of a version's
files. Evidence of one model that lies beside another is so found out.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from loraline.artifacts.merging import MergeReport
from loraline.identity.digests import digest_folder, digest_pairs
from loraline.models.model_files import POLICY_FILE

BESIDE_MERGED = frozenset({MergeReport.FILE, POLICY_FILE})
"""Files of a merged model's folder that its digest leaves out: those that are written after the parity check."""


def adapter_digest(folder: Path) -> str:
    """Digest of an adapter's folder: its weights, its configuration and the training's reports."""
    return digest_folder(folder)


def merged_digest(folder: Path) -> str:
    """Digest of a merged model's folder: its weights, its configuration and its tokenizer."""
    return digest_folder(folder, without=BESIDE_MERGED)


def digest_listed(files: Iterable[tuple[str, str]], without: frozenset[str] = frozenset()) -> str:
    """The same as the two from a list of names and sha256 digests, where the files themselves are elsewhere."""
    return digest_pairs(
        (name, digest)
        for name, digest in files
        if name not in without and not any(part.startswith(".") for part in PurePosixPath(name).parts)
    )
