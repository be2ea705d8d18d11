"""Does the merged model compute what the adapter on its base does? Logits of both, position by position.

Both sides compute in float32, from the weights as they are stored. So the difference is what rounding the
merged weights to the base's type (bfloat16, say) makes, and nothing else: in 16 bit the noise of the arithmetic
itself, an order of magnitude larger, would hide a faulty merge.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from components.shared.models import load_model


@dataclass(frozen=True)
class Parity:
    """Differences of logits, over all positions and the whole vocabulary."""

    max_difference: float
    """Largest difference between the adapter on its base and the merged model."""
    mean_difference: float
    max_adapter_effect: float
    """Largest difference between the adapter on its base and the base alone: what is to be preserved."""
    mean_adapter_effect: float


@dataclass
class _Difference:
    """Largest and mean absolute difference, gathered row by row."""

    largest: float = 0.0
    total: float = 0.0
    values: int = 0

    def add(self, one: torch.Tensor, other: torch.Tensor) -> None:
        apart = (one - other).abs()
        # A NaN must not get lost, as it would in max(): it is neither larger nor smaller.
        self.largest = float(torch.tensor([self.largest, apart.max().item()]).max())
        self.total += apart.sum(dtype=torch.float64).item()
        self.values += apart.numel()

    @property
    def mean(self) -> float:
        return self.total / self.values


def compare(
    base: Path, adapter: Path, merged: Path, rows: list[list[int]], advance: Callable[[int], None]
) -> Parity:
    """Compute the logits of some rows of tokens with the adapter on its base and with the merged model.

    One model is in memory at a time; the logits of all rows are, as float32 on the CPU.

    Args:
        base: folder of the base model.
        adapter: the PEFT folder.
        merged: folder of the merged model.
        rows: token ids.
        advance: called with the number of rows done, from 1 to twice `len(rows)`.
    """
    effect, apart = _Difference(), _Difference()
    adapted: Any = _in_float32(load_model(base, adapter))
    assert isinstance(adapted, PeftModel)
    device = adapted.device
    expected = []
    for i, row in enumerate(rows):
        expected.append(_logits(adapted, row))
        with adapted.disable_adapter():
            effect.add(expected[-1], _logits(adapted, row))
        advance(i + 1)
    del adapted
    gc.collect()  # a PEFT model holds itself in a cycle
    plain = _in_float32(load_model(merged).to(device))
    for i, row in enumerate(rows):
        apart.add(expected[i], _logits(plain, row))
        advance(len(rows) + i + 1)
    return Parity(apart.largest, apart.mean, effect.largest, effect.mean)


def _in_float32(model: Any) -> Any:
    """Make a model compute in float32; its weights are converted in place, one after the other."""
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")  # flash attention knows 16 bit only
    return model.float()


@torch.inference_mode()
def _logits(model: Any, row: list[int]) -> torch.Tensor:
    """Logits of one row, float32 on the CPU, shape ``(tokens, vocabulary)``."""
    ids = torch.tensor([row], device=model.device)
    return model(input_ids=ids, use_cache=False).logits[0].cpu()
