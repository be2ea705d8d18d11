"""Names, shapes and dtypes of a base's tensors, read where it lies, without its weights. Needs no torch."""

import json
from collections.abc import Callable
from pathlib import Path

from loraline import storage
from loraline.errors import ModelLoadingError
from loraline.models.safetensors_header import (
    INDEX,
    LENGTH_BYTES,
    SINGLE_FILE,
    StoredTensor,
    header_length,
    parse_header,
)
from loraline.sources import hub
from loraline.sources.model import parse_model_source, registered_version

_READ_AHEAD = 1 << 17
"""Bytes that are asked for at first; the header of a single file of an 8B model has 30 kB."""


def read_weight_headers(source: str, revision: str) -> dict[str, StoredTensor]:
    """Read the headers of a base's safetensors files, some kB of each; the tensors by name. Empty for `scratch:`.

    Raises:
        ModelLoadingError: there are no safetensors files, or some that the index names are missing.
        StorageError: the object store does not answer.
        OSError: the Hub does not answer.
    """
    parsed = parse_model_source(source)
    if parsed.kind == "scratch":
        return {}
    if parsed.kind == "hub":
        found = hub.weight_headers(parsed.location, revision)
        return {name: StoredTensor(name, shape, dtype, 0, 0) for name, (shape, dtype) in found.items()}
    if parsed.kind == "folder":
        folder = Path(parsed.location)
        return _read(source, {path.name for path in folder.iterdir()}, lambda name, a, n: _local(folder / name, a, n))
    url = parsed.location if parsed.kind == "s3" else registered_version(parsed.location, revision)[1]
    prefix = storage.S3Url.parse(url).key + "/"
    names = {item.key.removeprefix(prefix) for item in storage.list_objects(url)}
    return _read(source, names, lambda name, begin, count: storage.read_range(f"{url}/{name}", begin, count))


def _local(path: Path, begin: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(count)


def _read(source: str, names: set[str], read: Callable[[str, int, int], bytes]) -> dict[str, StoredTensor]:
    files = [SINGLE_FILE]
    if INDEX in names:
        files = sorted(set(json.loads(read(INDEX, 0, 1 << 30))["weight_map"].values()))
    if missing := [name for name in files if name not in names]:
        others = [name for name in sorted(names) if name.endswith((".bin", ".pt", ".pth")) and INDEX not in names]
        refused = f"; {others[0]} is not accepted, because reading it can run code" if others else ""
        raise ModelLoadingError(f"{source} has no {', '.join(missing)}{refused}; save it once with save_pretrained")
    return {tensor.name: tensor for name in files for tensor in parse_header(_header(name, read))}


def _header(name: str, read: Callable[[str, int, int], bytes]) -> bytes:
    beginning = read(name, 0, _READ_AHEAD)
    length = header_length(beginning)
    header = beginning[LENGTH_BYTES : LENGTH_BYTES + length]
    if len(header) < length:
        header += read(name, len(beginning), length - len(header))
    return header
