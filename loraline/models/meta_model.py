"""A model on torch's meta device: its modules and shapes without its weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from loraline.errors import ModelLoadingError
from loraline.models.auto_class import auto_class
from loraline.models.folder import load_config, read_manifest


def build_meta_model(folder: Path, source: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Build a model from a folder's configuration, frozen. No weights are read or allocated.

    Args:
        folder: a model folder; config.json is enough.
        source: where the model comes from, for a message.
        dtype: of its parameters.

    Raises:
        ModelLoadingError: transformers does not support the configuration as a causal language model.
    """
    config = load_config(folder)
    model: Any
    try:
        with torch.device("meta"):
            model = auto_class(config).from_config(
                config, dtype=dtype, trust_remote_code=read_manifest(folder).trust_remote_code
            )
    except (ValueError, TypeError, KeyError, ImportError) as error:
        raise ModelLoadingError(
            f"{source} is not a causal language model that transformers supports: {error}"
        ) from error
    model.requires_grad_(False)
    return model
