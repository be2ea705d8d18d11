"""LoRA on routed experts without ever adding the update to their weights.

PEFT's `ParamWrapper` computes ``W + B A`` for all experts of a layer in each forward pass, rounds it to the dtype of
the weights, keeps it for the backward pass, and computes a gradient of that size. Here tokens are sorted by expert, as
transformers does, and each product with W has the products with A and B beside it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import ParamWrapper
from torch import Tensor, nn
from torch.nn import functional
from transformers.integrations.moe import _grouped_linear

_ADAPTER_NAME = "default"  # PEFT's name of a model's only adapter
_RANK_MULTIPLE = 8  # grouped matrix products want rows of 16 bytes
_INTERFACE = ("has_gate", "has_bias", "has_post_expert_norm", "is_transposed", "_apply_gate")
"""What transformers' own grouped implementation reads of the experts that it serves."""


def use_expert_lora(model: nn.Module) -> None:
    """Replace the forward pass of every LoRA layer on experts that transformers' grouped implementation serves."""
    for module in model.modules():
        if isinstance(module, ParamWrapper):
            experts: Any = module.get_base_layer()
            if is_groupable(experts):
                module.forward = _forward(module, experts, module.forward)  # type: ignore[method-assign]


def is_groupable(experts: nn.Module) -> bool:
    """Whether experts compute as transformers' grouped implementation does; if not, PEFT's forward pass stays."""
    return all(hasattr(experts, name) for name in _INTERFACE)


class _Layer(NamedTuple):
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


def _forward(outer: ParamWrapper, experts: Any, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    layers: dict[str, _Layer] = {}
    wrapper: Any = outer
    while isinstance(wrapper, ParamWrapper):
        a, b = wrapper.lora_A[_ADAPTER_NAME], wrapper.lora_B[_ADAPTER_NAME]
        layers[wrapper.parameter_name] = _Layer(a.weight, b.weight, wrapper.scaling[_ADAPTER_NAME])
        wrapper = wrapper.base_layer

    def forward(hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        if outer.disable_adapters or outer.merged:
            return original(hidden_states, top_k_index, top_k_weights)
        return _compute(experts, layers, hidden_states, top_k_index, top_k_weights)

    return forward


def _compute(
    experts: Any, layers: dict[str, _Layer], hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """Compute experts and LoRA for tokens sorted by expert, as transformers' `grouped_mm_experts_forward`."""
    tokens, top_k = top_k_index.shape
    expert_ids, order = torch.sort(top_k_index.reshape(-1), stable=True)
    offsets = torch.bincount(expert_ids, minlength=experts.num_experts).cumsum(0, dtype=torch.int32)

    def product(name: str, x: Tensor) -> Tensor:
        output = _FrozenProduct.apply(x, offsets, experts, name)
        if name in layers:
            output = output + layers[name](x, offsets)
        return output + getattr(experts, f"{name}_bias")[expert_ids] if experts.has_bias else output

    rows = hidden_states[order // top_k]
    if experts.has_gate:
        rows = experts._apply_gate(product("gate_up_proj", rows))
    else:
        rows = experts.act_fn(product("up_proj", rows))
    rows = product("down_proj", rows)
    if experts.has_post_expert_norm:
        rows = experts.post_expert_norm(rows)
    rows = rows * top_k_weights.reshape(-1)[order].unsqueeze(-1)
    unsorted = rows[torch.argsort(order)].view(tokens, top_k, -1)
    return unsorted.sum(dim=1).to(hidden_states.dtype)


class _FrozenProduct(torch.autograd.Function):
    """The product of each row with the weight of its expert, which is frozen.

    Neither rows nor weights are kept for the backward pass: a weight that is quantized is dequantized again.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, offsets: Tensor, experts: Any, name: str) -> Tensor:
        ctx.save_for_backward(offsets)
        ctx.experts, ctx.name, ctx.dtype = experts, name, rows.dtype
        return _grouped_linear(rows, getattr(experts, name), offsets, None, experts.is_transposed).to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (offsets,) = ctx.saved_tensors
        weight = getattr(ctx.experts, ctx.name)
        d_rows = _grouped_linear(gradients[0].contiguous(), weight, offsets, None, not ctx.experts.is_transposed)
        return d_rows.to(ctx.dtype), None, None, None
