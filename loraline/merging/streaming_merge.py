"""Merge an adapter into one safetensors file, a block of rows at a time.

Memory use does not grow with the model. The merged file has the layout of the base's: the header and unchanged tensors
are copied byte for byte, and a merged tensor is written at the offset of the original. Arithmetic is that of PEFT's
`merge_and_unload` in float32, rounded once to the dtype of the base's weight (`loraline.merging.rounding`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open

from loraline.errors import AdapterError
from loraline.merging.expert_updates import Experts
from loraline.merging.rounding import StochasticRounding
from loraline.merging.weight_updates import WeightUpdate
from loraline.models.peft_files import ADAPTER_WEIGHTS
from loraline.models.safetensors_files import FLOAT_DTYPES, read_header
from loraline.models.safetensors_header import StoredTensor

_BLOCK_VALUES = 1 << 18  # values of a weight in memory at a time: 1 MB in float32, which caches hold
_COPY_BYTES = 1 << 22
_WEIGHTS_IN_MEMORY = 8  # an A and a B for gate and up, and for down, and those of the layers between


@dataclass(frozen=True)
class _Factors:
    """An update with its factors in memory, in float32."""

    update: WeightUpdate
    lora_b: torch.Tensor
    """Shape ``(rows of the stored tensor, rank)``, or ``(out, rank)`` where that is transposed."""
    lora_a: torch.Tensor
    magnitude: torch.Tensor | None

    @property
    def in_one_block(self) -> bool:
        """DoRA's norms run across the rows of a transposed weight: such a weight is merged in one block."""
        return self.update.transposed and self.magnitude is not None

    def merged(self, stored: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        """Rows `begin` to `end` of the merged weight, float32; rows that are not this update's stay as they are."""
        if self.update.transposed:
            merged = (self.lora_b @ self.lora_a[:, begin:end]).T.contiguous()
        else:
            merged = self.lora_b[begin:end] @ self.lora_a
        merged.mul_(self.update.scale).add_(stored)
        if self.magnitude is not None:
            norms = torch.linalg.norm(merged, dim=0 if self.update.transposed else 1)
            factor = self.magnitude / norms if self.update.transposed else self.magnitude[begin:end] / norms
            merged *= factor[None, :] if self.update.transposed else factor[:, None]
        if self.update.rows is None:
            return merged
        return torch.where((self.update.rows[begin:end] >= 0)[:, None], merged, stored)


@dataclass(frozen=True)
class _ExpertFactors:
    """The update of routed experts with the factors of all of them in memory, in float32."""

    update: WeightUpdate
    experts: Experts
    lora_b: torch.Tensor
    lora_a: torch.Tensor
    in_one_block: bool = False

    def merged(self, stored: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        """Rows `begin` to `end` of the merged weight, float32; rows that are not this update's stay as they are."""
        rows = self.experts.rows[begin:end]
        experts, lengths = torch.unique_consecutive(rows // self.experts.rows_of_each, return_counts=True)
        merged, at = stored.clone(), 0
        for expert, length in zip(experts.tolist(), lengths.tolist(), strict=True):
            run, at = slice(at, at + length), at + length
            if expert >= 0:
                left, right = self.experts.factors(expert, self.lora_b, self.lora_a)
                merged[run] += (left[rows[run] % self.experts.rows_of_each] @ right).mul_(self.update.scale)
        return merged


class _AdapterWeights:
    """An adapter's weights; those that were read last stay in memory, because many tensors share those of experts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read = lru_cache(maxsize=_WEIGHTS_IN_MEMORY)(self._read_anew)

    def factors(self, update: WeightUpdate) -> _Factors | _ExpertFactors:
        """Read LoRA's B and A, and DoRA's magnitude vector."""
        lora_b, lora_a = self._read(update.lora_b), self._read(update.lora_a)
        if update.experts:
            return _ExpertFactors(update, update.experts, lora_b, lora_a)
        magnitude = self._read(update.magnitude) if update.magnitude else None
        if update.rows is not None:
            lora_b, magnitude = lora_b[update.rows], None if magnitude is None else magnitude[update.rows]
        return _Factors(update, lora_b, lora_a, magnitude)

    def _read_anew(self, key: str) -> torch.Tensor:
        with safe_open(self.folder / ADAPTER_WEIGHTS, "pt") as weights:
            tensor: torch.Tensor = weights.get_tensor(key)
        return tensor.float()


def merge_file(
    source: Path, target: Path, adapter: Path, updates: Mapping[str, list[WeightUpdate]], advance: Callable[[], None]
) -> None:
    """Write one safetensors file of the merged model.

    Args:
        source: the base's file.
        target: the file to write.
        adapter: the PEFT folder.
        updates: the updates by the weight's name; weights of other files may be among them.
        advance: called after each merged weight.

    Raises:
        AdapterError: a merged weight is not finite.
    """
    weights = _AdapterWeights(adapter)
    with source.open("rb") as reader, target.open("wb") as writer:
        for tensor in read_header(source):
            if tensor.name not in updates:
                continue
            _copy(reader, writer, tensor.begin - writer.tell())
            _merge_tensor(reader, writer, weights, tensor, updates[tensor.name])
            advance()
        _copy(reader, writer, source.stat().st_size - writer.tell())


def _copy(reader: BinaryIO, writer: BinaryIO, count: int) -> None:
    """Copy `count` bytes from the writer's current offset, which is the same in both files."""
    reader.seek(writer.tell())
    while count:
        count -= writer.write(reader.read(min(_COPY_BYTES, count)))


def _merge_tensor(
    reader: BinaryIO, writer: BinaryIO, weights: _AdapterWeights, tensor: StoredTensor, updates: list[WeightUpdate]
) -> None:
    factors = [weights.factors(update) for update in updates]
    rows, columns = math.prod(tensor.shape[:-1]), tensor.shape[-1]
    step = rows if any(one.in_one_block for one in factors) else max(1, _BLOCK_VALUES // columns)
    rounding = StochasticRounding(tensor.name)
    reader.seek(tensor.begin)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        stored = _read_rows(reader, tensor, end - begin)
        merged = stored.float()
        for one in factors:
            merged = one.merged(merged, begin, end)
        rounded = rounding.round(merged, stored.dtype)
        lowest, highest = torch.aminmax(rounded)  # both are NaN if any value is; faster than isfinite
        if not (torch.isfinite(lowest) and torch.isfinite(highest)):
            raise AdapterError(
                f"the merged weight {tensor.name} is not finite in {stored.dtype}: the adapter in {weights.folder} is "
                "broken (look at the training's loss curve), or too large for the base's dtype"
            )
        writer.write(rounded.view(torch.uint8).numpy().data)


def _read_rows(reader: BinaryIO, tensor: StoredTensor, rows: int) -> torch.Tensor:
    dtype = FLOAT_DTYPES[tensor.dtype]
    buffer = bytearray(rows * tensor.shape[-1] * dtype.itemsize)
    reader.readinto(buffer)  # type: ignore[attr-defined]
    return torch.frombuffer(buffer, dtype=dtype).view(rows, tensor.shape[-1])
