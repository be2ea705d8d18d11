"""Linear layers quantized by bitsandbytes: its configuration, the size of a weight, and a workaround for CPUs."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.quantizers.base import get_keys_to_not_convert

from loraline.models.text_decoder import read_directly

_NF4_BLOCK, _NF4_NESTED_BLOCK = 64, 256
BYTES_PER_WEIGHT = {"int8": 1.0, "nf4": 0.5 + 1 / _NF4_BLOCK + 4 / (_NF4_BLOCK * _NF4_NESTED_BLOCK)}
"""Bytes of a quantized weight. nf4: four bits, one byte of absmax for each block, and, as that is quantized too, a
float32 for each 256 blocks. int8 has a float32 for each output beside its weights, which are not in this figure."""


def quantization_config(
    quantization: str, dtype: torch.dtype, unquantized: list[str] | None = None
) -> BitsAndBytesConfig | None:
    """Configure the quantization of all linear layers except the output head and `unquantized` ones; None for `none`.

    nf4 is QLoRA's 4-bit type with double quantization (arXiv 2305.14314); int8 is LLM.int8() (arXiv 2208.07339).
    """
    if quantization == "none":
        return None
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=unquantized)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=unquantized,
    )


def unquantized_layers(network: PreTrainedModel) -> list[str]:
    """Names of the layers that keep their dtype: the output head, and those whose weights code reads directly."""
    return [*get_keys_to_not_convert(network), *read_directly(network)]


def is_4bit(layer: nn.Module) -> bool:
    """Whether a layer is bitsandbytes' linear layer with 4-bit weights."""
    return type(layer).__name__ == "Linear4bit" and type(layer).__module__.startswith("bitsandbytes.")


def dequantize_4bit(weight: Tensor, state: Any, dtype: torch.dtype) -> Tensor:
    """Return the weight that a 4-bit layer computes with, shape (out, in).

    Args:
        weight: the packed weight.
        state: bitsandbytes' `quant_state` of the weight.
        dtype: in which the layer computes.
    """
    from bitsandbytes.functional import dequantize_4bit as dequantize

    dense: Tensor = dequantize(weight, state)
    return dense.to(dtype)


def prepare_quantized(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Make a 4-bit model safe to evaluate and then train on; other models are left as they are.

    On CPUs with AVX512-BF16 one forward pass in eval mode repacks a Linear4bit's weight into a layout that has no
    backward pass: gradients stop without an error. The compute dtype, which a checkpoint keeps from the machine that
    quantized it, becomes this machine's.
    """
    module: Any
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
            module.compute_dtype = dtype
            module.compute_type_is_set = True
