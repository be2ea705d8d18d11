"""The scratch model `scratch:dates`: a small base model that is pre-trained locally, so that no network is needed.

Its digest, which a run pins, covers its name and the code that defines it. It is the same in an image without torch,
where recipes are resolved, and in one with torch, where the model is trained. The trained weights also depend on the
versions of libraries, so the name of the cache folder covers these as well.
"""

import hashlib
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from loraline import progress
from loraline.errors import ModelLoadingError
from loraline.identity import digests
from loraline.identity.code import normalized

NAMES = ("dates",)
_SOURCES = ("dates.py", "scratch_definition.py", "scratch_pretraining.py")
_LIBRARIES = ("tokenizers", "torch", "transformers")


def digest(name: str) -> str:
    """SHA-256 of a scratch model's definition: its name, and the syntax of the modules that make it."""
    here = Path(__file__).parent
    sources = [(file, normalized((here / file).read_bytes())) for file in _SOURCES]
    return digests.digest_pairs(
        (key, hashlib.sha256(text.encode()).hexdigest()) for key, text in [*sources, ("name", name)]
    )


def cached_folder(name: str) -> Path:
    """The folder where a scratch model is cached. Its name covers the versions of the libraries that train it."""
    versions = [(library, _version(library)) for library in _LIBRARIES]
    key = digests.digest_pairs([("definition", digest(name)), *versions])
    return digests.cache_folder() / "scratch" / f"{name}-{key[:16]}"


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"


def train_or_load(name: str) -> Path:
    """Return the model folder of a scratch model, training the model first if it is not in the cache.

    Two processes may do this at once: both train the model, and the first to finish puts its own into the cache.

    Raises:
        ModelLoadingError: the cache cannot be written.
    """
    folder = cached_folder(name)
    if folder.exists():
        return folder
    from loraline.quickstart.scratch_pretraining import pretrain

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    except OSError as error:
        raise ModelLoadingError(
            f"the model cache {folder.parent} cannot be written ({error}); set LORALINE_CACHE to a writable folder"
        ) from error
    progress.note(f"training the scratch model {name}, once; it is cached in {folder}")
    try:
        pretrain(unfinished)
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was first with the same model
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def save_tokenizer_and_config(folder: Path) -> None:
    """Write a scratch model's tokenizer and configuration into a folder, without training its weights."""
    from loraline.quickstart.scratch_definition import make_config, make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    make_config(tokenizer).save_pretrained(folder)
