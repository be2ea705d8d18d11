"""The quantized weights of a checkpoint: which stored tensors make up each, and what it is in floating point.

A weight's scales stand in tensors that are named after it:

- bitsandbytes in 4 bit: `weight.absmax`, `weight.quant_map`, `weight.quant_state.bitsandbytes__nf4`; in 8 bit: `SCB`
- fp8 in blocks (DeepSeek V3, Qwen3 FP8): `weight_scale_inv`, one scale for each block of `weight_block_size`
- compressed-tensors, float-quantized: `weight_scale`, one for each row, or one alone
- mxfp4 (gpt-oss): `gate_up_proj_blocks` and `gate_up_proj_scales`
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loraline.errors import ModelLoadingError

Read = Callable[[str], Tensor]
_STATE = ".quant_state.bitsandbytes__"
_FOUR_BIT_PARTS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
_UNUSED = ("activation_scale", "input_scale", "weight_format", "weight_shape", "k_scale", "v_scale")
"""Endings of tensors that only a quantized layer needs."""


@dataclass(frozen=True)
class QuantizedWeight(ABC):
    """A weight of several stored tensors."""

    target: str
    """Its name in a checkpoint that is not quantized."""
    stored: str
    """The tensor with its values."""
    parts: tuple[str, ...]
    """The other tensors that it is made from."""

    @abstractmethod
    def dequantize(self, read: Read) -> Tensor:
        """The weight in floating point, of its own shape."""


class _FourBit(QuantizedWeight):
    def dequantize(self, read: Read) -> Tensor:
        from bitsandbytes.functional import QuantState, dequantize_4bit

        tensors = {part.removeprefix(f"{self.stored}."): read(part) for part in self.parts}
        found: Tensor = dequantize_4bit(read(self.stored), QuantState.from_dict(tensors, device=torch.device("cpu")))
        return found


class _EightBit(QuantizedWeight):
    def dequantize(self, read: Read) -> Tensor:
        return read(self.stored).float() * (read(self.parts[0]).float() / 127)[:, None]


class _Microscaled(QuantizedWeight):
    def dequantize(self, read: Read) -> Tensor:
        from transformers.integrations.mxfp4 import convert_moe_packed_tensors

        found: Tensor = convert_moe_packed_tensors(read(self.stored), read(self.parts[0]))
        return found


@dataclass(frozen=True)
class _Scaled(QuantizedWeight):
    block: tuple[int, ...]
    """Rows and columns that share a scale, where the scales form a grid."""

    def dequantize(self, read: Read) -> Tensor:
        values, scales = read(self.stored).float(), _scale_values(read(self.parts[0]))
        if scales.numel() == 1:
            return values * scales.reshape(())
        if scales.ndim < values.ndim or scales.shape[-1] == 1:  # one for each row
            return values * scales.reshape(*values.shape[:-1], 1)
        grid = tuple(math.ceil(size / block) for size, block in zip(values.shape[-2:], self.block, strict=True))
        if tuple(scales.shape[-2:]) != grid:
            raise ModelLoadingError(
                f"{self.stored} of shape {tuple(values.shape)} has {tuple(scales.shape)} scales, and in blocks of "
                f"{self.block} it would be {grid}"
            )
        for axis, block in zip((-2, -1), self.block, strict=True):
            scales = scales.repeat_interleave(block, dim=axis).narrow(axis, 0, values.shape[axis])
        return values * scales


def _scale_values(scales: Tensor) -> Tensor:
    """Scales in float32. Those of one byte are exponents of two."""
    if scales.dtype == torch.uint8:
        return (scales.float() - 127).exp2()
    return scales.float()


def find_quantized(
    section: dict[str, Any], names: Collection[str]
) -> tuple[dict[str, QuantizedWeight], frozenset[str]]:
    """The quantized weights among a checkpoint's tensors, by the name of their values, and the other tensors they need.

    Args:
        section: `quantization_config` of config.json.
        names: of all tensors.

    Raises:
        ModelLoadingError: a tensor is missing.
    """
    block = tuple(section.get("weight_block_size") or (128, 128))
    weights = [weight for name in names if (weight := _weight(name, names, str(section["quant_method"]), block))]
    if missing := sorted({part for weight in weights for part in (weight.stored, *weight.parts)} - set(names)):
        raise ModelLoadingError(f"the quantized checkpoint lacks {', '.join(missing[:3])}; fetch the model again")
    companions = {part for weight in weights for part in weight.parts}
    companions |= {name for name in names if name.endswith(_UNUSED)}
    return {weight.stored: weight for weight in weights}, frozenset(companions)


def _weight(name: str, names: Collection[str], method: str, block: tuple[int, ...]) -> QuantizedWeight | None:
    """The weight that a tensor with scales belongs to; None for other tensors."""
    if method == "bitsandbytes" and _STATE in name:
        stored = name.split(_STATE, maxsplit=1)[0]
        others = (f"{stored}.{part}" for part in _FOUR_BIT_PARTS)
        return _FourBit(stored, stored, (name, *(other for other in others if other in names)))
    if method == "bitsandbytes" and name.endswith(".SCB"):
        stored = f"{name.removesuffix('SCB')}weight"
        return _EightBit(stored, stored, (name,))
    if method == "mxfp4" and name.endswith("_scales"):
        target = name.removesuffix("_scales")
        return _Microscaled(target, f"{target}_blocks", (name,))
    for ending in ("_scale_inv", "_scale"):
        stored = name.removesuffix(ending)
        if method in ("fp8", "compressed-tensors") and stored != name and stored in names:
            return _Scaled(stored, stored, (name,), block)
    return None
