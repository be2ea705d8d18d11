"""Which layers of a model `training.target_modules` selects."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

ALL_LINEAR = ["all-linear"]
"""The setting that selects every linear layer except the output head."""


def linear_layers(model: PreTrainedModel) -> dict[str, Any]:
    """Return all linear layers by name, the output head included."""
    # The layers of bitsandbytes are nn.Linear too; GPT-2 and similar families have Conv1D.
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}


def target_layers(model: PreTrainedModel, target_modules: list[str]) -> dict[str, Any]:
    """Return the linear layers that get an adapter, by name: as PEFT selects them."""
    layers = linear_layers(model)
    if target_modules == ALL_LINEAR:
        head = model.get_output_embeddings()
        return {name: layer for name, layer in layers.items() if layer is not head}
    return {name: layer for name, layer in layers.items() if any(is_match(name, one) for one in target_modules)}


def is_match(name: str, target: str) -> bool:
    """Whether an entry of `target_modules` is a layer's full name or its last part."""
    return name == target or name.endswith(f".{target}")
