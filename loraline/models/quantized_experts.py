"""Routed experts in NF4. transformers quantizes linear layers alone, and experts are most of a mixture's weights.

bitsandbytes quantizes any tensor. The packed weights stand beside the parameter, whose place is taken by one of the
same shape that takes no memory and is NaN, so that PEFT finds what it adapts, and that a forward pass which does not
know of the packed weights cannot go unnoticed. A weight is dequantized where it is needed (`grouped_experts.py`).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from loraline.models.experts import expert_parameters

_PACKED = "_loraline_nf4"
_BLOCK = 64  # weights that share a scale
_INTERFACE = ("has_gate", "has_bias", "has_post_expert_norm", "is_transposed", "_apply_gate")


class PackedWeight(NamedTuple):
    """A weight in NF4 with double quantization (arXiv 2305.14314)."""

    packed: Tensor
    state: Any
    """bitsandbytes' scales."""
    shape: torch.Size

    def dequantize(self) -> Tensor:
        """Return the weight in the dtype that it was quantized from."""
        from bitsandbytes.functional import dequantize_4bit

        weight: Tensor = dequantize_4bit(self.packed, self.state)
        return weight.view(self.shape)


def is_grouped(experts: nn.Module) -> bool:
    """Whether transformers' grouped implementation serves these experts, so that their forward pass can be ours."""
    return all(hasattr(experts, name) for name in _INTERFACE)


def quantizable_experts(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Return the experts' weights that can be held in NF4, by name."""
    weights = expert_parameters(model)
    return {
        name: weight for name, weight in weights.items() if is_grouped(model.get_submodule(name.rpartition(".")[0]))
    }


def quantize_experts(model: PreTrainedModel, device: torch.device) -> None:
    """Quantize the experts of a frozen model, one parameter after the other, and move the model to a device.

    Args:
        model: on the CPU, where the device need not hold all of its weights in 16 bit.
        device: where it will run; what is packed goes there.
    """
    weights = list(quantizable_experts(model).items())
    for name, weight in weights:
        experts, parameter = _owner(model, name)
        packed = vars(experts).setdefault(_PACKED, {})
        packed[parameter] = _pack(weight.data.to(device))
        setattr(experts, parameter, nn.Parameter(weight.data.new_empty(0), requires_grad=False))
    model.to(device)  # type: ignore[arg-type]  # mypy takes the method of a wrapped model for this one
    for name, weight in weights:
        experts, parameter = _owner(model, name)
        nowhere = torch.full((1, 1, 1), torch.nan, dtype=weight.dtype, device=device)
        setattr(experts, parameter, nn.Parameter(nowhere.expand(weight.shape), requires_grad=False))


def expert_weight(experts: nn.Module, name: str) -> Tensor:
    """The weight of all experts of a layer, dequantized where it is held in NF4."""
    packed: dict[str, PackedWeight] = vars(experts).get(_PACKED, {})
    weight: Tensor = packed[name].dequantize() if name in packed else getattr(experts, name)
    return weight


def is_packed(experts: nn.Module) -> bool:
    """Whether experts are held in NF4."""
    return _PACKED in vars(experts)


def _owner(model: PreTrainedModel, name: str) -> tuple[nn.Module, str]:
    module, _, parameter = name.rpartition(".")
    return model.get_submodule(module), parameter


def _pack(weight: Tensor) -> PackedWeight:
    from bitsandbytes.functional import quantize_4bit

    # In rows of one block: on a CPU bitsandbytes takes blocks of rows that are no multiple of one for something else.
    rows = weight.reshape(-1, _BLOCK) if weight.numel() % _BLOCK == 0 else weight.reshape(1, -1)
    packed, state = quantize_4bit(rows, compress_statistics=True, quant_type="nf4")
    return PackedWeight(packed, state, weight.shape)
