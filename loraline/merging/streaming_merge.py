"""Merge an adapter into one safetensors file, a block of rows at a time.

Memory use does not grow with the model. The merged file has the layout of the base's: the header and unchanged tensors
are copied byte for byte, and a merged tensor is written at the offset of the original. Arithmetic is that of PEFT's
`merge_and_unload`: float32, rounded once to the dtype of the base's weight.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open

from loraline.errors import AdapterError
from loraline.merging.weight_updates import WeightUpdate
from loraline.models.peft_files import ADAPTER_WEIGHTS
from loraline.models.safetensors_files import FLOAT_DTYPES, StoredTensor, read_header

_BLOCK_VALUES = 1 << 18  # values of a weight in memory at a time: 1 MB in float32, which caches hold
_COPY_BYTES = 1 << 22


def merge_file(
    source: Path, target: Path, adapter: Path, updates: dict[str, WeightUpdate], advance: Callable[[], None]
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
    with source.open("rb") as reader, target.open("wb") as writer:
        for tensor in read_header(source):
            if tensor.name not in updates:
                continue
            _copy(reader, writer, tensor.begin - writer.tell())
            _merge_tensor(reader, writer, adapter, tensor, updates[tensor.name])
            advance()
        _copy(reader, writer, source.stat().st_size - writer.tell())


def _copy(reader: BinaryIO, writer: BinaryIO, count: int) -> None:
    """Copy `count` bytes from the writer's current offset, which is the same in both files."""
    reader.seek(writer.tell())
    while count:
        count -= writer.write(reader.read(min(_COPY_BYTES, count)))


def _merge_tensor(
    reader: BinaryIO, writer: BinaryIO, adapter: Path, tensor: StoredTensor, update: WeightUpdate
) -> None:
    lora_b, lora_a, magnitude = _read_update(adapter, update)
    rows, columns = tensor.shape
    # DoRA's norms run across the rows of a transposed weight: such a weight is merged in one block.
    in_one_block = update.transposed and magnitude is not None
    step = rows if in_one_block else max(1, _BLOCK_VALUES // columns)
    reader.seek(tensor.begin)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        stored = _read_rows(reader, tensor, end - begin)
        merged = (lora_b @ lora_a[:, begin:end]).T.contiguous() if update.transposed else lora_b[begin:end] @ lora_a
        merged.mul_(update.scale).add_(stored)
        if magnitude is not None:
            norms = torch.linalg.norm(merged, dim=0 if update.transposed else 1)
            factor = magnitude / norms if update.transposed else magnitude[begin:end] / norms
            merged *= factor[None, :] if update.transposed else factor[:, None]
        rounded = merged.to(stored.dtype)
        lowest, highest = torch.aminmax(rounded)  # both are NaN if any value is; faster than isfinite
        if not (torch.isfinite(lowest) and torch.isfinite(highest)):
            raise AdapterError(
                f"the merged weight {tensor.name} is not finite in {stored.dtype}: the adapter in {adapter} is "
                "broken (look at the training's loss curve), or too large for the base's dtype"
            )
        writer.write(rounded.view(torch.uint8).numpy().data)


def _read_update(adapter: Path, update: WeightUpdate) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Read LoRA's B and A, and DoRA's magnitude vector, in float32."""
    with safe_open(adapter / ADAPTER_WEIGHTS, "pt") as weights:
        lora_b, lora_a = weights.get_tensor(update.lora_b).float(), weights.get_tensor(update.lora_a).float()
        magnitude = weights.get_tensor(update.magnitude).float() if update.magnitude else None
    return lora_b, lora_a, magnitude


def _read_rows(reader: BinaryIO, tensor: StoredTensor, rows: int) -> torch.Tensor:
    dtype = FLOAT_DTYPES[tensor.dtype]
    buffer = bytearray(rows * tensor.shape[1] * dtype.itemsize)
    reader.readinto(buffer)  # type: ignore[attr-defined]
    return torch.frombuffer(buffer, dtype=dtype).view(rows, tensor.shape[1])
