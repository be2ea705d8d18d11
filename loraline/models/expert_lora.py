"""LoRA on routed experts without ever adding the update to their weights.

PEFT's `ParamWrapper` computes ``W + B A`` for all experts of a layer in each forward pass, rounds it to the dtype of
the weights, keeps it for the backward pass, and computes a gradient of that size. Here tokens are sorted by expert, as
transformers does, and each product with W has the products with A and B beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peft.tuners.lora import ParamWrapper
from torch import Tensor, nn
from torch.nn import functional
from transformers.integrations.moe import _grouped_linear

from loraline.models.grouped_experts import Addition, compute_experts
from loraline.models.quantized_experts import is_grouped

_ADAPTER_NAME = "default"  # PEFT's name of a model's only adapter
_RANK_MULTIPLE = 8  # grouped matrix products want rows of 16 bytes


def use_expert_lora(model: nn.Module) -> None:
    """Replace the forward pass of every LoRA layer on experts that transformers' grouped implementation serves.

    On others PEFT's stays.
    """
    for module in model.modules():
        if isinstance(module, ParamWrapper) and is_grouped(module.get_base_layer()):
            module.forward = _forward(module)  # type: ignore[method-assign]


@dataclass(frozen=True)
class _Layer:
    """A LoRA layer on one parameter of the experts."""

    lora_a: Tensor
    """Shape ``(experts * rank, in)``."""
    lora_b: Tensor
    """Shape ``(out, rank * experts)``."""
    scaling: float

    def __call__(self, x: Tensor, offsets: Tensor) -> Tensor:
        experts = len(offsets)
        a = self.lora_a.view(experts, -1, self.lora_a.shape[1]).to(x.dtype)
        b = self.lora_b.view(self.lora_b.shape[0], -1, experts).permute(2, 0, 1).to(x.dtype)
        if missing := -a.shape[1] % _RANK_MULTIPLE:
            a, b = functional.pad(a, (0, 0, 0, missing)), functional.pad(b, (0, missing))
        down = _grouped_linear(x, a.contiguous(), offsets)
        return _grouped_linear(down, b.contiguous(), offsets) * self.scaling


def _forward(outer: ParamWrapper) -> Callable[..., Tensor]:
    experts: Any = outer.get_base_layer()
    original = outer.forward
    layers: dict[str, Addition] = {}
    wrapper: Any = outer
    while isinstance(wrapper, ParamWrapper):
        a: Any = wrapper.lora_A[_ADAPTER_NAME]
        b: Any = wrapper.lora_B[_ADAPTER_NAME]
        layers[wrapper.parameter_name] = _Layer(a.weight, b.weight, wrapper.scaling[_ADAPTER_NAME])
        wrapper = wrapper.base_layer

    def forward(hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        if outer.disable_adapters or outer.merged:
            return original(hidden_states, top_k_index, top_k_weights)
        return compute_experts(experts, layers, hidden_states, top_k_index, top_k_weights)

    return forward
