"""The routed experts of a mixture of experts: which parameters they are, and which modules route to them.

Transformers holds the experts of a layer as two or three parameters of a module, `gate_up_proj` of shape
``(experts, 2 * intermediate, hidden)`` and the like, whatever a checkpoint's own tensors are. They are no linear
layers, and get an adapter by the parameter's name.
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

_MATRICES = 3  # dimensions of a parameter that holds a matrix for each expert
_ROUTERS = ("gate", "router", "shared_expert_gate")


def expert_parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Return the weights of routed experts by name, without biases; each has shape ``(experts, rows, columns)``."""
    return {
        f"{module_name}.{name}": parameter
        for module_name, module in model.named_modules()
        if "Expert" in type(module).__name__
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == _MATRICES
    }


def is_router(name: str, layer: Any) -> bool:
    """Whether a linear layer of a mixture of experts decides where a token goes, or how much a shared expert counts."""
    return "Router" in type(layer).__name__ or any(part in _ROUTERS for part in name.split(".")[-2:])


def expert_names(model: PreTrainedModel) -> list[str]:
    """What `training.target_modules` can call the experts: the module's name, or the module's and the parameter's."""
    paths = [name.split(".") for name in expert_parameters(model)]
    return sorted({path[-2] for path in paths} | {".".join(path[-2:]) for path in paths})
