"""Which layers of a model `training.target_modules` selects."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from loraline.models.experts import expert_parameters, is_router
from loraline.models.text_decoder import linear_layers, obstacles

ALL_LINEAR = ["all-linear"]
"""The setting that selects every linear layer of the text decoder and all routed experts, without the output head and
without routers."""


def target_layers(model: PreTrainedModel, target_modules: list[str]) -> dict[str, Any]:
    """Return the linear layers that get an adapter, by name.

    A name's last part means the layers of that name in the text decoder; those that can have none are left out.
    """
    excluded = obstacles(model)
    layers = {name: layer for name, layer in linear_layers(model).items() if name not in excluded}
    if target_modules == ALL_LINEAR:
        head = model.get_output_embeddings()
        mixture = bool(expert_parameters(model))
        return {
            name: layer
            for name, layer in layers.items()
            if layer is not head and not (mixture and is_router(name, layer))
        }
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


def target_experts(model: PreTrainedModel, target_modules: list[str]) -> dict[str, nn.Parameter]:
    """Return the routed experts' weights that get an adapter, by name.

    They are called by their module (`experts`) or by module and parameter (`experts.down_proj`). A parameter's name
    alone does not select them: dense layers and shared experts have a `down_proj`, too.
    """
    experts = expert_parameters(model)
    if target_modules == ALL_LINEAR:
        return experts
    return {name: weight for name, weight in experts.items() if any(_selects(one, name) for one in target_modules)}


def _selects(target: str, parameter: str) -> bool:
    module, _, name = parameter.rpartition(".")
    return is_match(module, target) or (is_match(parameter, target) and target != name)


def is_match(name: str, target: str) -> bool:
    """Whether an entry of `target_modules` is a layer's full name or its last part."""
    return name == target or name.endswith(f".{target}")
