"""The safetensors files of a model folder: which there are, and where each tensor is stored in them.

Format (https://huggingface.co/docs/safetensors): eight bytes of little-endian header length, the header in JSON, and
the tensors' bytes.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from loraline.errors import ModelLoadingError

FLOAT_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The dtypes that are merged, by their names in safetensors."""
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class StoredTensor:
    """The header entry of a tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As safetensors names it, such as BF16."""
    begin: int
    """Offset of its first byte in the file."""
    end: int
    """Offset after its last byte."""


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model: the shards that its index names, or the single file.

    Raises:
        ModelLoadingError: a file is missing.
    """
    index = folder / _INDEX
    names = ["model.safetensors"]
    if index.exists():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise ModelLoadingError(f"{folder} lacks the weights {', '.join(missing)}; fetch the model again")
    return [folder / name for name in names]


def read_header(path: Path) -> list[StoredTensor]:
    """Read the header of a safetensors file; the tensors come in the order of their offsets.

    Raises:
        ModelLoadingError: the file is shorter or longer than its header says.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    data = 8 + length
    tensors = [
        StoredTensor(name, tuple(entry["shape"]), entry["dtype"], *(data + offset for offset in entry["data_offsets"]))
        for name, entry in header.items()
    ]
    size, expected = path.stat().st_size, max((tensor.end for tensor in tensors), default=data)
    if size != expected:
        raise ModelLoadingError(f"{path} has {size} bytes and should have {expected}; fetch the model again")
    return sorted(tensors, key=lambda tensor: tensor.begin)


def count_parameters(folder: Path) -> int:
    """Number of weights in a model's files. Tied weights are stored, and counted, once.

    Raises:
        ModelLoadingError: a file is missing or truncated.
    """
    return sum(math.prod(tensor.shape) for file in weight_files(folder) for tensor in read_header(file))
