"""The header of a GGUF file: its metadata, and the names and types of its tensors. Needs no torch.

Format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): magic, version, two counts, key-value pairs, and a
table of tensors. All numbers are little-endian here; big-endian files are refused as an unknown version.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraline.errors import ModelLoadingError

_VERSIONS = (2, 3)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself."""

    metadata: dict[str, Any]
    """Values by their keys; arrays are lists."""
    tensors: dict[str, int]
    """GGML's number of each tensor's type, by the tensor's name."""

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture."""
        return str(self.metadata.get("general.architecture", ""))


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file, and none of its tensors.

    Raises:
        ModelLoadingError: it is not a GGUF file, of another version, or cut off within its header.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(_Reader(data), path)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise ModelLoadingError(f"the GGUF file {path} cannot be read: {error}") from error
    except (struct.error, KeyError, RecursionError) as error:
        raise ModelLoadingError(
            f"the header of the GGUF file {path} is cut off or damaged ({error!r}); fetch the file again"
        ) from error


def _read(reader: "_Reader", path: Path) -> GgufHeader:
    magic, version = reader.take(4), reader.number("I")
    if magic != b"GGUF" or version not in _VERSIONS:
        raise ModelLoadingError(
            f"{path} is not a GGUF file of version 2 or 3: it begins with {magic!r} and the version {version}"
        )
    tensors, values = reader.number("Q"), reader.number("Q")
    metadata = {reader.text(): reader.value(reader.number("I")) for _ in range(values)}
    return GgufHeader(metadata, dict(reader.tensor() for _ in range(tensors)))


class _Reader:
    """Reads values one after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise struct.error(f"{size} bytes at {self._position} of {len(self._data)}")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_NUMBERS[kind])
        item, count = self.number("I"), self.number("Q")
        if item in (_STRING, _ARRAY):
            return [self.value(item) for _ in range(count)]
        form = f"<{count}{_NUMBERS[item]}"
        return list(struct.unpack(form, self.take(struct.calcsize(form))))

    def tensor(self) -> tuple[str, int]:
        """A tensor's name and type; its shape and place are skipped."""
        name = self.text()
        self.take(8 * self.number("I"))
        kind = self.number("I")
        self.take(8)
        return name, kind
