"""The safetensors files of a model folder: which there are, and where each tensor is stored in them."""

import json
import math
from pathlib import Path

import torch

from loraline.errors import ModelLoadingError
from loraline.models.safetensors_header import (
    INDEX,
    LENGTH_BYTES,
    SINGLE_FILE,
    StoredTensor,
    header_length,
    parse_header,
)

FLOAT_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The dtypes that are merged, by their names in safetensors."""


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model: the shards that its index names, or the single file.

    Raises:
        ModelLoadingError: a file is missing.
    """
    index = folder / INDEX
    names = [SINGLE_FILE]
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
        tensors = parse_header(file.read(header_length(file.read(LENGTH_BYTES))))
        data = file.tell()
    size, expected = path.stat().st_size, max((tensor.end for tensor in tensors), default=data)
    if size != expected:
        raise ModelLoadingError(f"{path} has {size} bytes and should have {expected}; fetch the model again")
    return tensors


def count_parameters(folder: Path) -> int:
    """Number of weights in a model's files. Tied weights are stored, and counted, once.

    Raises:
        ModelLoadingError: a file is missing or truncated.
    """
    return sum(math.prod(tensor.shape) for file in weight_files(folder) for tensor in read_header(file))
