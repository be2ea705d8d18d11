"""The forward pass of routed experts that are frozen: tokens sorted by expert, and one grouped product for each weight.

As transformers' `grouped_mm_experts_forward`, but that neither inputs nor weights are kept for the backward pass, that
weights may be held in NF4, and that something can be added to each product (`expert_lora.py` adds LoRA).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.moe import _grouped_linear

from loraline.models.quantized_experts import expert_weight, is_packed

Addition = Callable[[Tensor, Tensor], Tensor]
"""What is added to a product: computed from its rows, sorted by expert, and from where each expert's rows end."""


def use_packed_experts(model: nn.Module) -> None:
    """Replace the forward pass of experts that are held in NF4 by one that dequantizes them."""
    for module in model.modules():
        if is_packed(module):
            module.forward = partial(compute_experts, module, {})


def compute_experts(
    experts: Any, additions: Mapping[str, Addition], hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """Compute experts for the tokens that are routed to them.

    Args:
        experts: a module that transformers' grouped implementation serves.
        additions: by the name of the weight whose product each is added to.
        hidden_states: shape ``(tokens, hidden)``.
        top_k_index: the experts of each token, shape ``(tokens, k)``.
        top_k_weights: how much each counts, of that shape.
    """
    tokens, top_k = top_k_index.shape
    expert_ids, order = torch.sort(top_k_index.reshape(-1), stable=True)
    offsets = torch.bincount(expert_ids, minlength=experts.num_experts).cumsum(0, dtype=torch.int32)

    def product(name: str, x: Tensor) -> Tensor:
        output = _FrozenProduct.apply(x, offsets, experts, name)
        if name in additions:
            output = output + additions[name](x, offsets)
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
        weight = expert_weight(experts, name)
        return _grouped_linear(rows, weight, offsets, None, experts.is_transposed).to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (offsets,) = ctx.saved_tensors
        weight = expert_weight(ctx.experts, ctx.name)
        d_rows = _grouped_linear(gradients[0].contiguous(), weight, offsets, None, not ctx.experts.is_transposed)
        return d_rows.to(ctx.dtype), None, None, None
