"""A model folder as files: what its manifest says, and its tokenizer. Needs no torch."""

from pathlib import Path

import pydantic
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from loraline.artifacts.base_model import ModelManifest
from loraline.errors import ModelLoadingError


def read_manifest(folder: Path) -> ModelManifest:
    """Read a model folder's manifest; a folder without one gets the defaults.

    Raises:
        ModelLoadingError: there is a manifest, and it is not one that load_model writes.
    """
    path = folder / ModelManifest.FILE
    if not path.exists():
        return ModelManifest()
    try:
        return ModelManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except pydantic.ValidationError as error:
        raise ModelLoadingError(f"{path} is not a manifest of load_model; run load_model again: {error}") from error


def write_manifest(folder: Path, manifest: ModelManifest) -> None:
    """Write a model folder's manifest."""
    manifest.save(folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a model folder's tokenizer. It has a padding token, if need be the end-of-sequence token.

    Raises:
        ModelLoadingError: the folder has no tokenizer, or a broken one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=read_manifest(folder).trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelLoadingError(f"no tokenizer can be loaded from {folder}: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(folder: Path) -> PreTrainedConfig:
    """Read a model folder's configuration.

    Raises:
        ModelLoadingError: there is none, or transformers does not know the architecture.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=read_manifest(folder).trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadingError(
            f"the model configuration in {folder} cannot be read: {error} (a model that brings its own code "
            "runs only with model.trust_remote_code=true)"
        ) from error


def context_length(config: PreTrainedConfig) -> int | None:
    """Most tokens that a model can read at once; None where it has no limit (ALiBi, state-space models)."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)
