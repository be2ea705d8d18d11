"""Does the merged model compute what the adapter on its base does? Logits of both, position by position.

Both sides compute in float32, from the weights as they are stored. So the difference is what rounding the
merged weights to the base's type makes, and nothing else. Measured with a Llama of 1.1B parameters in
bfloat16, with an adapter that changes logits (standard deviation 0.9) by up to 4.9: at most 0.062, on average
0.008; computed in bfloat16, 0.141 and 0.022, most of it noise of the arithmetic on both sides.
"""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM

from components.merge_adapter.tensors import read_header, weight_files
from components.shared import progress
from components.shared.model_folder import read_manifest
from components.shared.models import pick_device

_CUDA_BYTES_TO_SPARE = 4 << 30  # for activations and logits of one row


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


def compare(base: Path, adapter: Path, merged: Path, rows: list[list[int]], advance: Callable[[int], None]) -> Parity:
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
    device = _device(base)
    adapted: Any = PeftModel.from_pretrained(_in_float32(base, device), str(adapter)).eval()
    expected = []
    for i, row in enumerate(rows):
        expected.append(_logits(adapted, row))
        with adapted.disable_adapter():
            effect.add(expected[-1], _logits(adapted, row))
        advance(i + 1)
    del adapted
    gc.collect()  # a PEFT model holds itself in a cycle
    plain = _in_float32(merged, device)
    for i, row in enumerate(rows):
        apart.add(expected[i], _logits(plain, row))
        advance(len(rows) + i + 1)
    return Parity(apart.largest, apart.mean, effect.largest, effect.mean)


def _device(base: Path) -> torch.device:
    """The device that the recipe asks for, or the CPU where a GPU cannot hold the weights in float32."""
    device = pick_device(read_manifest(base).device)
    if device.type == "cuda":
        needed = sum(4 * math.prod(tensor.shape) for file in weight_files(base) for tensor in read_header(file))
        free, _ = torch.cuda.mem_get_info(device)
        if needed + _CUDA_BYTES_TO_SPARE > free:
            progress.note(f"comparing on the CPU: in float32 the model needs {needed >> 20} MB of the GPU")
            return torch.device("cpu")
    return device


def _in_float32(folder: Path, device: torch.device) -> Any:
    """Load a model as its files have it, without the rounding to the type that the recipe computes in."""
    transformers.utils.logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        device_map={"": device},
        trust_remote_code=read_manifest(folder).trust_remote_code,
        use_safetensors=True,
    ).eval()


@torch.inference_mode()
def _logits(model: Any, row: list[int]) -> torch.Tensor:
    """Logits of one row, float32 on the CPU, shape ``(tokens, vocabulary)``."""
    ids = torch.tensor([row], device=model.device)
    return model(input_ids=ids, use_cache=False).logits[0].cpu()
