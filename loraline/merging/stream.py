"""The merge itself: one pass over the base's files, a block of rows at a time.

Memory does not grow with the model. A merged file is laid out as the base's: header and untouched tensors are
copied byte for byte, and a merged tensor takes its predecessor's place. Arithmetic is PEFT's
(`merge_and_unload`): float32, rounded once to the type of the base's weight.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open

from loraline.errors import AdapterError
from loraline.merging.tensors import FLOATS, StoredTensor, read_header
from loraline.merging.updates import ADAPTER_WEIGHTS, Update

_BLOCK_VALUES = 1 << 18  # values of a weight in memory at a time: 1 MB in float32, which caches hold
_COPY_BYTES = 1 << 22


def merge_file(
    source: Path, target: Path, adapter: Path, updates: dict[str, Update], advance: Callable[[], None]
) -> None:
    """Write one file of the merged model.

    Args:
        source: a safetensors file of the base.
        target: the file to write.
        adapter: the PEFT folder.
        updates: what changes, by the weight's name; weights of other files may be among them.
        advance: called after each weight that was merged.

    Raises:
        AdapterError: a merged weight is not finite.
    """
    with source.open("rb") as reading, target.open("wb") as writing:
        for tensor in read_header(source):
            if tensor.name not in updates:
                continue
            _copy(reading, writing, tensor.begin - writing.tell())
            _merge_tensor(reading, writing, adapter, tensor, updates[tensor.name])
            advance()
        _copy(reading, writing, source.stat().st_size - writing.tell())


def _copy(reading: BinaryIO, writing: BinaryIO, count: int) -> None:
    """Copy bytes from where `writing` stands in its file, which is where they stand in `reading`."""
    reading.seek(writing.tell())
    while count:
        count -= writing.write(reading.read(min(_COPY_BYTES, count)))


def _merge_tensor(reading: BinaryIO, writing: BinaryIO, adapter: Path, tensor: StoredTensor, update: Update) -> None:
    up, down, magnitude = _read_update(adapter, update)
    rows, columns = tensor.shape
    # The norms that DoRA needs lie across the rows of a transposed weight: it is taken in one piece.
    whole = update.transposed and magnitude is not None
    step = rows if whole else max(1, _BLOCK_VALUES // columns)
    reading.seek(tensor.begin)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        stored = _read_rows(reading, tensor, end - begin)
        merged = (up @ down[:, begin:end]).T.contiguous() if update.transposed else up[begin:end] @ down
        merged.mul_(update.scale).add_(stored)
        if magnitude is not None:
            norms = torch.linalg.norm(merged, dim=0 if update.transposed else 1)
            factor = magnitude / norms if update.transposed else magnitude[begin:end] / norms
            merged *= factor[None, :] if update.transposed else factor[:, None]
        rounded = merged.to(stored.dtype)
        lowest, highest = torch.aminmax(rounded)  # both are NaN where anything is; faster than isfinite
        if not (torch.isfinite(lowest) and torch.isfinite(highest)):
            raise AdapterError(
                f"the merged {tensor.name} is not finite in {stored.dtype}: the adapter in {adapter} is "
                "broken (look at the training's loss curve), or too large for the base's type"
            )
        writing.write(rounded.view(torch.uint8).numpy().data)


def _read_update(adapter: Path, update: Update) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The adapter's B and A, and DoRA's magnitudes, in float32."""
    with safe_open(adapter / ADAPTER_WEIGHTS, "pt") as weights:
        up, down = weights.get_tensor(update.up).float(), weights.get_tensor(update.down).float()
        magnitude = weights.get_tensor(update.magnitude).float() if update.magnitude else None
    return up, down, magnitude


def _read_rows(reading: BinaryIO, tensor: StoredTensor, rows: int) -> torch.Tensor:
    dtype = FLOATS[tensor.kind]
    buffer = bytearray(rows * tensor.shape[1] * dtype.itemsize)
    reading.readinto(buffer)  # type: ignore[attr-defined]
    return torch.frombuffer(buffer, dtype=dtype).view(rows, tensor.shape[1])
