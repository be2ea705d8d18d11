"""A model folder without its weights: manifest, tokenizer and configuration. Needs no torch."""

from pathlib import Path

import pydantic
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from loraline.artifacts.base_model import ModelManifest
from loraline.errors import ModelLoadingError


def read_manifest(folder: Path) -> ModelManifest:
    """Read a model folder's manifest; a folder without one has the default manifest.

    Raises:
        ModelLoadingError: the file is not a manifest as load_model writes it.
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
    """Load a model folder's tokenizer. Without a padding token of its own it pads with the end-of-sequence token.

    Raises:
        ModelLoadingError: the folder has no tokenizer, or one that cannot be read.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=read_manifest(folder).trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelLoadingError(f"the tokenizer in {folder} cannot be loaded: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(folder: Path) -> PreTrainedConfig:
    """Read a model folder's configuration.

    Raises:
        ModelLoadingError: there is none, or transformers does not support the architecture.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=read_manifest(folder).trust_remote_code)
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        raise ModelLoadingError(
            f"the model configuration in {folder} cannot be read: {error} (a model that comes with its own "
            "code needs model.trust_remote_code=true)"
        ) from error


def context_length(config: PreTrainedConfig) -> int | None:
    """Longest sequence (tokens) that a model supports; None where there is no limit (ALiBi, state-space models)."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)
