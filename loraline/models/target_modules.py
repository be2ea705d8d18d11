"""Which layers of a model `training.target_modules` selects."""

from typing import Any

from transformers import PreTrainedModel

from loraline.models.text_decoder import linear_layers, obstacles

ALL_LINEAR = ["all-linear"]
"""The setting that selects every linear layer of the text decoder, without the output head."""


def target_layers(model: PreTrainedModel, target_modules: list[str]) -> dict[str, Any]:
    """Return the linear layers that get an adapter, by name.

    A name's last part means the layers of that name in the text decoder; those that can have none are left out.
    """
    excluded = obstacles(model)
    layers = {name: layer for name, layer in linear_layers(model).items() if name not in excluded}
    if target_modules == ALL_LINEAR:
        head = model.get_output_embeddings()
        return {name: layer for name, layer in layers.items() if layer is not head}
    return {name: layer for name, layer in layers.items() if any(is_match(name, one) for one in target_modules)}


def unreachable_targets(model: PreTrainedModel, target_modules: list[str]) -> list[str]:
    """Return what is wrong with the names that select nothing but layers that can have no adapter; empty if nothing."""
    excluded = obstacles(model)
    problems = []
    for target in target_modules:
        named = [name for name in linear_layers(model) if is_match(name, target)]
        if named and all(name in excluded for name in named):
            problems.append(f"training.target_modules: {target!r} is {named[0]!r}: {excluded[named[0]]}")
    return problems


def is_match(name: str, target: str) -> bool:
    """Whether an entry of `target_modules` is a layer's full name or its last part."""
    return name == target or name.endswith(f".{target}")
