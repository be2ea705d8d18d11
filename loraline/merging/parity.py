"""Does the merged model compute what the adapter on its base does? Logits, probabilities and greedy choices of both.

Both sides compute in float32, from the weights as they are stored. So the difference is what rounding the
merged weights to the base's type makes, and nothing else. Measured with a Llama of 1.1B parameters in
bfloat16, with an adapter that changes logits (standard deviation 0.9) by up to 4.9: at most 0.062, on average
0.008; computed in bfloat16, 0.141 and 0.022, most of it noise of the arithmetic on both sides.

One model is in memory at a time, and the logits of all rows are, as float32 on the CPU.
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

from loraline import progress
from loraline.artifacts.merging import GreedyReport, Spread
from loraline.merging.greedy import GreedyChoices, Prompts
from loraline.merging.tensors import FLOATS, read_header, weight_files
from loraline.models.device import pick_device
from loraline.models.folder import read_manifest
from loraline.models.load import load_model
from loraline.units import format_bytes

_CUDA_BYTES_TO_SPARE = 4 << 30  # for activations and logits of one row


@dataclass(frozen=True)
class Apart:
    """How far two models are from one another, over all positions."""

    logits: Spread
    """Absolute difference of a logit, over the whole vocabulary too."""
    kl_divergence: Spread
    """Kullback-Leibler divergence of the next token's probabilities, in nats."""


@dataclass(frozen=True)
class Parity:
    """The merged model against the adapter on its base."""

    apart: Apart
    effect: Apart
    """The adapter on its base against the base alone: what is to be preserved."""
    greedy: GreedyReport
    quantized: Apart | None
    """The merged model against the adapter on the quantized base that it was trained on; None where there is none."""


@dataclass
class _Sum:
    """Mean and largest value of figures that come row by row."""

    largest: float = 0.0
    total: float = 0.0
    values: int = 0

    def add(self, figures: torch.Tensor) -> None:
        # A NaN must not get lost, as it would in max(): it is neither larger nor smaller.
        self.largest = float(torch.tensor([self.largest, figures.max().item()]).max())
        self.total += figures.sum(dtype=torch.float64).item()
        self.values += figures.numel()

    def spread(self) -> Spread:
        return Spread(mean=self.total / self.values, max=self.largest)


class _Difference:
    """How far two models are apart, gathered row by row."""

    def __init__(self) -> None:
        self._logits, self._divergence = _Sum(), _Sum()

    def add(self, one: torch.Tensor, other: torch.Tensor) -> None:
        """Take logits of both, shape ``(tokens, vocabulary)``; the divergence is that of `other` from `one`."""
        self._logits.add((one - other).abs())
        p, q = torch.log_softmax(one, -1), torch.log_softmax(other, -1)
        self._divergence.add((p.exp() * (p - q)).sum(-1).clamp_min(0.0))  # rounding can make it -1e-8

    def result(self) -> Apart:
        return Apart(self._logits.spread(), self._divergence.spread())


def compare(
    base: Path,
    adapter: Path,
    merged: Path,
    quantization: str,
    rows: list[list[int]],
    prompts: Prompts,
    advance: Callable[[int], None],
) -> Parity:
    """Compare the adapter on its base with the merged model.

    Args:
        base: folder of the base model.
        adapter: the PEFT folder.
        merged: folder of the merged model.
        quantization: how the base was held while the adapter was trained: none, int8 or nf4.
        rows: token ids, at each of which logits are compared.
        prompts: what is answered greedily.
        advance: called with the rows done, at last `steps(rows, quantization)`.
    """
    apart, effect, quantized = _Difference(), _Difference(), _Difference()
    done = iter(range(1, 1 << 30))
    device = _device(base)
    adapted: Any = PeftModel.from_pretrained(_in_float32(base, device), str(adapter)).eval()
    logits = []
    for row in rows:
        logits.append(_logits(adapted, row))
        with adapted.disable_adapter():
            effect.add(logits[-1], _logits(adapted, row))
        advance(next(done))
    choices = GreedyChoices(adapted, prompts, _stored_type(base))
    del adapted
    gc.collect()  # a PEFT model holds itself in a cycle
    plain = _in_float32(merged, device)
    for i, row in enumerate(rows):
        of_merged = _logits(plain, row)
        apart.add(logits[i], of_merged)
        logits[i] = of_merged
        advance(next(done))
    greedy = choices.compare(plain)
    del plain
    if quantization != "none":
        gc.collect()
        trained_on = load_model(base, adapter, quantization=quantization)
        for i, row in enumerate(rows):
            quantized.add(_logits(trained_on, row), logits[i])
            advance(next(done))
    return Parity(apart.result(), effect.result(), greedy, None if quantization == "none" else quantized.result())


def steps(rows: list[list[int]], quantization: str) -> int:
    """How often `compare` advances."""
    return len(rows) * (2 if quantization == "none" else 3)


def _device(base: Path) -> torch.device:
    """The device that the recipe asks for, or the CPU where a GPU cannot hold the weights in float32."""
    device = pick_device(read_manifest(base).device)
    if device.type == "cuda":
        needed = sum(4 * math.prod(tensor.shape) for file in weight_files(base) for tensor in read_header(file))
        free, _ = torch.cuda.mem_get_info(device)
        if needed + _CUDA_BYTES_TO_SPARE > free:
            progress.note(f"comparing on the CPU: in float32 the model needs {format_bytes(needed)} of the GPU")
            return torch.device("cpu")
    return device


def _stored_type(base: Path) -> torch.dtype:
    """The type that most of a base's weights are stored in, to which the merged weights are rounded."""
    sizes = dict.fromkeys(FLOATS, 0)
    for file in weight_files(base):
        for tensor in read_header(file):
            if tensor.kind in sizes:
                sizes[tensor.kind] += math.prod(tensor.shape)
    return FLOATS[max(sizes, key=sizes.__getitem__)]


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
    return model(input_ids=ids, use_cache=False).logits[0].float().cpu()
