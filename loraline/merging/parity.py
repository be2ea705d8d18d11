"""Parity: whether the merged model computes what the adapter on its base does.

Compared are next-token distributions, the part of the adapter's effect that is kept, logits and greedy decoding. Both
models compute in float32, from the weights as they are stored, so that the difference is the rounding of the merged
weights to the base's dtype and nothing else. It is judged by what the adapter itself changes: one logit of a rare token
may move far in an honest merge (5.2 were seen), and a faint adapter is lost by less than a strong one.

One model is in memory at a time, its weights as they are stored, and so are the logits of all sequences, in float32 on
the CPU. On a CPU the weights are mapped from their files, so that a model may be larger than the memory.
"""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from loraline import progress
from loraline.artifacts.merging import GreedyReport
from loraline.merging.divergence import Divergence, DivergenceMeter
from loraline.merging.effect import EffectMeter
from loraline.merging.greedy import GreedyReference
from loraline.merging.parity_inputs import ParityInputs
from loraline.models.device import pick_device
from loraline.models.float32_compute import compute_in_float32, load_stored_weights, weights_dtype
from loraline.models.folder import read_manifest
from loraline.models.load import load_model
from loraline.models.lora_injection import attach_lora
from loraline.models.safetensors_files import FLOAT_DTYPES, count_parameters, read_header, weight_files
from loraline.units import format_bytes

_FREE_CUDA_BYTES = 6 << 30  # for a layer and the output head in float32, the activations and logits of one sequence


@dataclass(frozen=True)
class ParityModels:
    """The folders that are compared."""

    base: Path
    """The base in 16 or 32 bit."""
    adapter: Path
    merged: Path
    quantization: str
    """Quantization of the base that the adapter was trained on: none, int8 or nf4."""


@dataclass(frozen=True)
class Parity:
    """The result of the comparison."""

    divergence: Divergence
    """Of the merged model from the adapter on its base."""
    adapter_effect: Divergence
    """Of the base from the adapter on it: what the merge has to preserve."""
    effect_kept: float
    """Part of that effect which the merged model has; NaN where there is none."""
    greedy: GreedyReport
    quantized: Divergence | None
    """Of the merged model from the adapter on the quantized base that it was trained on; None without quantization."""


def measure_parity(models: ParityModels, inputs: ParityInputs, advance: Callable[[int, int], None]) -> Parity:
    """Compare the merged model with the adapter on its base.

    Args:
        models: the folders.
        inputs: the sequences whose logits are compared, and the prompts that are completed greedily.
        advance: called after each forward pass over a sequence, with how many are done and how many there are.
    """
    counter = _ProgressCounter(len(inputs.sequences) * (2 if models.quantization == "none" else 3), advance)
    device = _device(models.base)
    effect = EffectMeter()
    logits, adapter_effect, reference = _run_adapter(models, inputs, device, counter, effect)
    merged = _load(models.merged, None, device)
    meter = DivergenceMeter()
    for i, sequence in enumerate(inputs.sequences):
        merged_logits = _logits(merged, sequence)
        meter.add(logits[i], merged_logits)
        effect.add_merged(i, merged_logits)
        logits[i] = merged_logits
        counter.step()
    greedy = reference.compare(merged)
    del merged
    quantized = None if models.quantization == "none" else _run_quantized(models, inputs, logits, counter)
    return Parity(meter.result(), adapter_effect, effect.kept(), greedy, quantized)


class _ProgressCounter:
    def __init__(self, total: int, advance: Callable[[int, int], None]) -> None:
        self._done, self._total, self._advance = 0, total, advance

    def step(self) -> None:
        self._done += 1
        self._advance(self._done, self._total)


def _run_adapter(
    models: ParityModels,
    inputs: ParityInputs,
    device: torch.device,
    counter: _ProgressCounter,
    effect: EffectMeter,
) -> tuple[list[torch.Tensor], Divergence, GreedyReference]:
    """Logits and greedy completions of the adapter on its base, and how far the base alone is from it."""
    network = _load(models.base, models.adapter, device)
    meter = DivergenceMeter()
    logits = []
    for sequence in inputs.sequences:
        logits.append(_logits(network, sequence))
        with network.disable_adapter():
            base_logits = _logits(network, sequence)
        meter.add(logits[-1], base_logits)
        effect.add_adapter(logits[-1], base_logits)
        counter.step()
    reference = GreedyReference(network, inputs.prompts, _weight_dtype(models.base))
    del network
    gc.collect()  # a PEFT model is part of a reference cycle
    return logits, meter.result(), reference


def _run_quantized(
    models: ParityModels, inputs: ParityInputs, merged_logits: list[torch.Tensor], counter: _ProgressCounter
) -> Divergence:
    """How far the merged model is from the adapter on the quantized base that it was trained on."""
    gc.collect()
    network = load_model(models.base, models.adapter, quantization=models.quantization)
    meter = DivergenceMeter()
    for sequence, logits in zip(inputs.sequences, merged_logits, strict=True):
        meter.add(_logits(network, sequence), logits)
        counter.step()
    return meter.result()


def _device(base: Path) -> torch.device:
    """The device that the recipe asks for, or the CPU where a GPU cannot hold the weights."""
    device = pick_device(read_manifest(base).device)
    if device.type == "cuda":
        needed = weights_dtype(base).itemsize * count_parameters(base) + _FREE_CUDA_BYTES
        free, _ = torch.cuda.mem_get_info(device)
        if needed > free:
            progress.note(f"comparing on the CPU: the comparison needs {format_bytes(needed)} of GPU memory")
            return torch.device("cpu")
    return device


def _weight_dtype(base: Path) -> torch.dtype:
    """The dtype that most of a base's weights are stored in, to which the merged weights are rounded."""
    sizes = dict.fromkeys(FLOAT_DTYPES, 0)
    for file in weight_files(base):
        for tensor in read_header(file):
            if tensor.dtype in sizes:
                sizes[tensor.dtype] += math.prod(tensor.shape)
    return FLOAT_DTYPES[max(sizes, key=sizes.__getitem__)]


def _load(folder: Path, adapter: Path | None, device: torch.device) -> Any:
    """Load a model as it is stored, with an adapter or without, to compute in float32."""
    network: Any = load_stored_weights(folder, device)
    if adapter:
        network = attach_lora(network, adapter, trainable=False).eval()
    compute_in_float32(network)
    return network


@torch.inference_mode()
def _logits(model: Any, sequence: list[int]) -> torch.Tensor:
    """Logits of one sequence, float32 on the CPU, shape ``(tokens, vocabulary)``."""
    ids = torch.tensor([sequence], device=model.device)
    return model(input_ids=ids, use_cache=False).logits[0].float().cpu()
