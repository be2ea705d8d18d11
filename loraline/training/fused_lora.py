"""LoRA and the frozen linear layer below it as one autograd function, in the base model's dtype.

A 4-bit layer's weight is dequantized in the forward pass, and again in the backward pass: it exists in 16 bit for one
layer at a time (QLoRA, arXiv 2305.14314).
"""

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn import functional

from loraline.models.bitsandbytes_layers import dequantize_4bit, is_4bit
from loraline.training.config import TrainConfig
from loraline.training.memory_facts import can_fuse_lora

_ADAPTER_NAME = "default"  # PEFT's name of a model's only adapter


def use_fused_lora(model: PeftModel, config: TrainConfig) -> None:
    """Replace the forward pass of every layer that is plain LoRA on a plain or 4-bit linear layer."""
    module: Any
    for module in model.modules():
        if _is_lora_on_linear(module) and can_fuse_lora(module.get_base_layer(), config.use_dora, config.dropout):
            module.forward = _fused_forward(module)


def _is_lora_on_linear(module: Any) -> bool:
    # PEFT has a class of its own for a 4-bit base, whose module imports bitsandbytes.
    return type(module) is LoraLinear or (isinstance(module, LoraLayer) and type(module).__name__ == "Linear4bit")


def _fused_forward(layer: LoraLayer) -> Any:
    base: Any = layer.get_base_layer()
    a, b = layer.lora_A[_ADAPTER_NAME].weight, layer.lora_B[_ADAPTER_NAME].weight
    scaling = layer.scaling[_ADAPTER_NAME]

    def forward(x: Tensor) -> Tensor:
        state = base.weight.quant_state if is_4bit(base) else None
        dtype = base.weight.dtype if state is None else base.compute_dtype or x.dtype
        rows = x.reshape(-1, x.shape[-1])
        output = _FusedLora.apply(rows.to(dtype), base.weight, state, base.bias, a, b, scaling)
        # Shaped here: autograd lets no model change in place what is a view made inside a function (Gemma 3n does).
        return output.view(*x.shape[:-1], -1).to(x.dtype)

    return forward


class _FusedLora(torch.autograd.Function):
    """x W^T + bias + scaling (x A^T) B^T, in the base's dtype.

    PEFT's own forward casts x to the adapter's float32, keeps that copy for the backward pass and computes in it.
    Here the small matrices are cast instead, and both products are added in place.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        state: Any,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scaling: float,
    ) -> Tensor:
        a, b = a.to(rows.dtype), b.to(rows.dtype)
        down = rows @ a.T
        bias = None if bias is None else bias.to(rows.dtype)
        output = functional.linear(rows, _dense(weight, state, rows.dtype), bias).addmm_(down, b.T, alpha=scaling)
        ctx.save_for_backward(rows, weight, a, b, down)
        ctx.scaling, ctx.state = scaling, state
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, a, b, down = ctx.saved_tensors
        gradient = gradients[0]
        up = (gradient @ b).mul_(ctx.scaling)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = (gradient @ _dense(weight, ctx.state, rows.dtype)).addmm_(up, a)
        d_a = (up.T @ rows).float()
        d_b = (gradient.T @ down).float().mul_(ctx.scaling)
        return d_x, None, None, None, d_a, d_b, None


def _dense(weight: Tensor, state: Any, dtype: torch.dtype) -> Tensor:
    """The weight as a matrix; `state` is that of its quantization, None where it is one already."""
    return weight if state is None else dequantize_4bit(weight, state, dtype)
