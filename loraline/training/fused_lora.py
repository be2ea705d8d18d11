"""LoRA and the frozen linear layer below it as one autograd function, in the base model's dtype."""

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn import functional

from loraline.training.config import TrainConfig
from loraline.training.memory_facts import can_fuse_lora

_ADAPTER_NAME = "default"  # PEFT's name of a model's only adapter


def use_fused_lora(model: PeftModel, config: TrainConfig) -> None:
    """Replace the forward pass of every layer that is plain LoRA on a plain linear layer."""
    for module in model.modules():
        if type(module) is LoraLinear and can_fuse_lora(module.base_layer, config.use_dora, config.dropout):
            module.forward = _fused_forward(module)  # type: ignore[method-assign]


def _fused_forward(layer: LoraLayer) -> Any:
    base = layer.get_base_layer()
    a, b = layer.lora_A[_ADAPTER_NAME].weight, layer.lora_B[_ADAPTER_NAME].weight
    scaling = layer.scaling[_ADAPTER_NAME]

    def forward(x: Tensor) -> Tensor:
        rows = _FusedLora.apply(x.reshape(-1, x.shape[-1]), base.weight, base.bias, a, b, scaling)
        # Shaped here: autograd lets no model change in place what is a view made inside a function (Gemma 3n does).
        return rows.view(*x.shape[:-1], -1)

    return forward


class _FusedLora(torch.autograd.Function):
    """x W^T + bias + scaling (x A^T) B^T, in the base's dtype.

    PEFT's own forward casts x to the adapter's float32, keeps that copy for the backward pass and computes in it.
    Here the small matrices are cast instead, and both products are added in place.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        a, b = a.to(weight.dtype), b.to(weight.dtype)
        down = rows @ a.T
        output = functional.linear(rows, weight, bias).addmm_(down, b.T, alpha=scaling)
        ctx.save_for_backward(rows, weight, a, b, down)
        ctx.scaling = scaling
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, a, b, down = ctx.saved_tensors
        gradient = gradients[0]
        up = (gradient @ b).mul_(ctx.scaling)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = (gradient @ weight).addmm_(up, a)
        d_a = (up.T @ rows).float()
        d_b = (gradient.T @ down).float().mul_(ctx.scaling)
        return d_x, None, None, d_a, d_b, None
