"""The update of routed experts, which are one parameter for all experts of a layer.

PEFT adapts a parameter of shape ``(experts, rows, columns)`` with one A, in which the experts' matrices stand behind
one another, and one B, in which they are interleaved (`ParamWrapper` in peft/tuners/lora/layer.py). The files may hold
the parameter in one tensor, in one for each expert, in gate and up apart, or transposed.
"""

from dataclasses import dataclass
from typing import Any

import torch

from loraline.errors import AdapterError
from loraline.models.stored_layout import StoredLayout

_BASE_LAYER = ".base_layer"
_MATRIX = 2  # dimensions


@dataclass(frozen=True)
class Experts:
    """How the update of a stored tensor is put together from A and B."""

    count: int
    inputs_first: bool
    """An expert's weight has shape ``(in, out)``, and not ``(out, in)``."""
    rows: torch.Tensor
    """For each row of the stored tensor (all but its last dimension, flattened) the row of the parameter, likewise;
    where it is stored transposed, the column, of all experts behind one another. -1: none of this parameter."""
    rows_of_each: int
    """Rows of one expert's weight; where it is stored transposed, columns."""
    transposed: bool
    """The tensor's rows are columns of the experts' weights."""

    def factors(self, expert: int, lora_b: torch.Tensor, lora_a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors whose product is the update of one expert's weight, turned as it is stored.

        Args:
            expert: its number.
            lora_b: of all experts, shape ``(out, rank * experts)``.
            lora_a: of all experts, shape ``(experts * rank, in)``.
        """
        a = lora_a.view(self.count, -1, lora_a.shape[1])[expert]
        b = lora_b.view(lora_b.shape[0], -1, self.count)[:, :, expert]
        return (a.T, b.T) if self.inputs_first != self.transposed else (b, a)


def adapted_parameter(module: str, network: Any, targets: list[str]) -> str | None:
    """The parameter that a LoRA layer of PEFT wraps; None where it wraps a layer.

    Args:
        module: path of the LoRA layer. Of several parameters of a module the first is wrapped first, so that the layer
            of the last has the module's own path, and that of each before it one more `base_layer`.
        network: the model.
        targets: PEFT's `target_parameters`.

    Raises:
        AdapterError: there is no such parameter among the targets.
    """
    path, depth = module, 0
    while path.endswith(_BASE_LAYER):
        path, depth = path.removesuffix(_BASE_LAYER), depth + 1
    try:
        owner = network.get_submodule(path)
    except AttributeError:
        return None
    names = [f"{path}.{name}" for name, _ in owner.named_parameters(recurse=False)]
    wrapped = [name for name in names if is_target(name, targets)]
    if not wrapped or isinstance(owner, torch.nn.Linear):
        return None
    if depth >= len(wrapped):
        raise AdapterError(f"{module} wraps none of target_parameters={targets[:4]}")
    return wrapped[-1 - depth]


def is_target(parameter: str, targets: list[str]) -> bool:
    """Whether PEFT's `target_parameters` name a parameter."""
    return any(parameter == target or parameter.endswith(f".{target}") for target in targets)


def stored_experts(
    parameter: str, lora_b: tuple[int, ...], lora_a: tuple[int, ...], network: Any, layout: StoredLayout
) -> dict[str, Experts]:
    """Find the stored tensors of a parameter, each with the way in which its update is put together.

    Args:
        parameter: its name.
        lora_b: shape of B.
        lora_a: shape of A.
        network: the model.
        layout: of the base's files.

    Raises:
        AdapterError: A and B do not have the parameter's shape.
        ModelLoadingError: the base's files do not hold the parameter.
    """
    owner = network.get_submodule(parameter.rpartition(".")[0])
    shape = tuple(network.get_parameter(parameter).shape)
    count, rows, columns = (1, *shape) if len(shape) == _MATRIX else shape
    inputs_first = len(shape) > _MATRIX and bool(getattr(owner, "is_transposed", False))
    update = (lora_a[1], lora_b[0]) if inputs_first else (lora_b[0], lora_a[1])
    if update != (rows, columns) or lora_b[1] != lora_a[0] or lora_a[0] % count:
        raise AdapterError(f"A {lora_a} and B {lora_b} are not those of {parameter}, which has shape {shape}")
    found = {}
    for part in layout.parts(parameter):
        all_rows = torch.arange(count * rows) if part.rows is None else part.rows
        of_each = columns if part.transposed else rows
        found[part.tensor] = Experts(count, inputs_first, all_rows, of_each, part.transposed)
    return found
