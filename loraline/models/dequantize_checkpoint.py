"""Dequantize a checkpoint: a model folder whose files are quantized becomes an ordinary 16-bit one.

It is done tensor by tensor, so that memory holds one shard of the result.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from loraline import progress
from loraline.errors import ModelLoadingError
from loraline.models.quantized_tensors import QuantizedWeight, find_quantized
from loraline.models.safetensors_files import weight_files
from loraline.models.stored_quantization import quantization_of, quantization_problem

_CONFIG, _INDEX, _SINGLE = "config.json", "model.safetensors.index.json", "model.safetensors"
_SHARD_BYTES = 4 << 30
_PLAIN = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)
"""Dtypes of tensors that are copied as they are."""


def dequantize_checkpoint(folder: Path, source: str) -> str:
    """Dequantize the weights of a model folder in place, where they are quantized.

    Args:
        folder: a model folder; its files are replaced.
        source: where the model comes from, for a message.

    Returns:
        The method that the weights were quantized by; empty where they were not.

    Raises:
        ModelLoadingError: the method is not known here, or tensors that belong to it are missing.
    """
    settings = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    section = quantization_of(settings)
    if not section:
        return ""
    if problem := quantization_problem(settings):
        raise ModelLoadingError(f"the base {source!r} cannot be trained: {problem}")
    method = str(section["quant_method"])
    progress.note(f"dequantizing from {method}")
    dtype = _dtype(settings)
    files = weight_files(folder)
    with ExitStack() as stack:
        stored: dict[str, Any] = {}
        for file in files:
            opened = stack.enter_context(safe_open(file, framework="pt"))
            stored |= dict.fromkeys(opened.keys(), opened)
        shards = _write_shards(folder, _dequantized(section, stored, dtype, source))
    for file in files:
        file.unlink()
    (folder / _INDEX).unlink(missing_ok=True)
    _name_shards(folder, shards)
    _write_config(folder, settings, dtype)
    return method


def _dtype(settings: dict[str, Any]) -> torch.dtype:
    """The 16-bit dtype that the configuration names; else bfloat16."""
    sections = (settings, settings.get("text_config") or {})
    named = {section.get(key) for section in sections for key in ("dtype", "torch_dtype")}
    return torch.float16 if "float16" in named else torch.bfloat16


def _dequantized(
    section: dict[str, Any], stored: dict[str, Any], dtype: torch.dtype, source: str
) -> Iterator[tuple[str, Tensor]]:
    """All tensors of the 16-bit checkpoint with their names. Those that were not quantized stay as they are."""
    weights, companions = find_quantized(section, stored)
    names = [name for name in stored if name not in companions]
    for done, name in enumerate(names, 1):
        weight: QuantizedWeight | None = weights.get(name)
        if weight:
            yield weight.target, weight.dequantize(lambda part: stored[part].get_tensor(part)).to(dtype).contiguous()
        else:
            tensor: Tensor = stored[name].get_tensor(name)
            if tensor.dtype not in _PLAIN:
                raise ModelLoadingError(
                    f"{source} stores {name} as {tensor.dtype}, and nothing beside it says how it is dequantized"
                )
            yield name, tensor
        progress.advance(done, len(names), "tensors dequantized")


def _write_shards(folder: Path, tensors: Iterator[tuple[str, Tensor]]) -> list[list[str]]:
    """Write unnumbered shards; returns the tensors' names in each."""
    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}

    def flush() -> None:
        if pending:
            save_file(pending, folder / f"dequantized-{len(shards)}.tmp", metadata={"format": "pt"})
            shards.append(list(pending))
            pending.clear()

    for name, tensor in tensors:
        if sum(held.nbytes for held in pending.values()) + tensor.nbytes > _SHARD_BYTES:
            flush()
        pending[name] = tensor
    flush()
    return shards


def _name_shards(folder: Path, shards: list[list[str]]) -> None:
    """Give shards the names that transformers looks for, and write the index where there are several."""
    count = len(shards)
    names = [_SINGLE] if count == 1 else [f"model-{at:05}-of-{count:05}.safetensors" for at in range(1, count + 1)]
    for at, name in enumerate(names):
        (folder / f"dequantized-{at}.tmp").rename(folder / name)
    if count > 1:
        size = sum((folder / name).stat().st_size for name in names)
        places = {tensor: name for name, tensors in zip(names, shards, strict=True) for tensor in tensors}
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write_config(folder: Path, settings: dict[str, Any], dtype: torch.dtype) -> None:
    """Write the configuration without its sections on quantization. The file may be a link into a cache."""
    kept = {key: value for key, value in settings.items() if key not in ("quantization_config", "compression_config")}
    if text := kept.get("text_config"):
        kept["text_config"] = {key: value for key, value in text.items() if key != "quantization_config"}
    kept.pop("torch_dtype", None)
    kept["dtype"] = str(dtype).removeprefix("torch.")
    (folder / _CONFIG).unlink()
    (folder / _CONFIG).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
