"""Safetensors files as they lie on disk: a length, a header in JSON, and the tensors' bytes.

https://huggingface.co/docs/safetensors: eight bytes of little-endian length, then the header, then the data.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from loraline.errors import ModelLoadingError

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies."""

    name: str
    shape: tuple[int, ...]
    kind: str
    """Type as safetensors names it, such as BF16."""
    begin: int
    """First byte in its file."""
    end: int


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up a model.

    Raises:
        ModelLoadingError: there are none, or some that the index names are missing.
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
    """Read what lies in a file, in the order of its bytes.

    Raises:
        ModelLoadingError: the file is shorter or longer than its header says.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    data = 8 + length
    found = [
        StoredTensor(name, tuple(at["shape"]), at["dtype"], *(data + offset for offset in at["data_offsets"]))
        for name, at in header.items()
    ]
    size, promised = path.stat().st_size, max((tensor.end for tensor in found), default=data)
    if size != promised:
        raise ModelLoadingError(f"{path} has {size} bytes and should have {promised}; fetch the model again")
    return sorted(found, key=lambda tensor: tensor.begin)
