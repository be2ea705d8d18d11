"""A base model made from nothing, for where there is no network: `scratch:dates`.

It is cached by content: the key is a digest of everything that defines the model, the code that makes it
included. What is cached is a model folder like any other.
"""

import hashlib
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from loraline import progress
from loraline.errors import ModelLoadingError
from loraline.identity import digests

NAMES = ("dates",)
_MADE_BY = ("dates.py", "scratch.py", "scratch_definition.py", "scratch_pretraining.py")
_MADE_WITH = ("torch", "transformers", "tokenizers")


def digest(name: str) -> str:
    """sha256 over all that defines a scratch model: its name, the code here, and the libraries' versions."""
    here = Path(__file__).parent
    parts = [(file, digests.digest_file(here / file)) for file in _MADE_BY]
    parts += [(library, _version(library)) for library in _MADE_WITH]
    return digests.digest_pairs([*parts, ("name", hashlib.sha256(name.encode()).hexdigest())])


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"


def make(name: str) -> Path:
    """Give the folder of a scratch model; the model is made if it is not in the cache. It stays in the cache.

    Two processes may ask at once: both make the model, and the first to finish puts its own in the cache.

    Raises:
        ModelLoadingError: the cache cannot be written.
    """
    folder = digests.cache_folder() / "scratch" / f"{name}-{digest(name)[:16]}"
    if folder.exists():
        return folder
    from loraline.quickstart.scratch_pretraining import pretrain

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        being_made = Path(tempfile.mkdtemp(dir=folder.parent))
    except OSError as error:
        raise ModelLoadingError(
            f"the model cache {folder.parent} cannot be written ({error}); set LORALINE_CACHE to a folder of yours"
        ) from error
    progress.note(f"making the scratch model {name}, once: it is kept in {folder}")
    try:
        pretrain(being_made)
        being_made.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was first, with the same model
            raise
    finally:
        shutil.rmtree(being_made, ignore_errors=True)
    return folder


def describe(folder: Path) -> None:
    """Write a scratch model's tokenizer and configuration into a folder, without making its weights."""
    from loraline.quickstart.scratch_definition import make_config, make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    make_config(tokenizer).save_pretrained(folder)
