"""The header of a safetensors file: names, shapes and dtypes of its tensors. Needs no torch.

Format (https://huggingface.co/docs/safetensors): eight bytes of little-endian header length, the header in JSON, and
the tensors' bytes.
"""

import json
from dataclasses import dataclass

LENGTH_BYTES = 8
"""Bytes before the header, which hold its length."""
INDEX = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"


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


def header_length(beginning: bytes) -> int:
    """Bytes of the header, from the first bytes of a file."""
    return int.from_bytes(beginning[:LENGTH_BYTES], "little")


def parse_header(header: bytes) -> list[StoredTensor]:
    """Parse a header; the tensors come in the order of their offsets."""
    entries = json.loads(header)
    entries.pop("__metadata__", None)
    data = LENGTH_BYTES + len(header)
    tensors = [
        StoredTensor(name, tuple(entry["shape"]), entry["dtype"], *(data + offset for offset in entry["data_offsets"]))
        for name, entry in entries.items()
    ]
    return sorted(tensors, key=lambda tensor: tensor.begin)
