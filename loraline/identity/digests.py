"""sha256 digests of files and folders, remembered so that unchanged files are not read again."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_REMEMBER_FROM = 16 << 20  # bytes; smaller files are read faster than a memory of them is kept


def cache_folder() -> Path:
    """The folder for what can be made again: $LORALINE_CACHE, else ~/.cache/loraline."""
    return Path(os.environ.get("LORALINE_CACHE") or Path.home() / ".cache" / "loraline").expanduser()


def digest_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """sha256 over (name, content digest) pairs, whatever their order."""
    return hashlib.sha256(json.dumps(sorted(pairs)).encode()).hexdigest()


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes.

    A large file is read once: its digest is remembered under its path, inode, size and time of change, as
    git's index does, so that a run can ask at its start whether 16 GB of weights are what they were.
    """
    stat = path.stat()
    if stat.st_size < _REMEMBER_FROM:
        return _read(path)
    identity = f"{path.resolve()}|{stat.st_ino}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}"
    memory = cache_folder() / "digests" / hashlib.sha256(identity.encode()).hexdigest()
    if not memory.exists():
        write_atomically(memory, _read(path))
    return memory.read_text(encoding="ascii")


def digest_folder(folder: Path, without: frozenset[str] = frozenset()) -> str:
    """sha256 over the names and bytes of a folder's files, but those named in `without` and hidden ones."""
    files = (path for path in folder.rglob("*") if path.is_file())
    named = ((path.relative_to(folder), path) for path in files)
    return digest_pairs(
        (name.as_posix(), digest_file(path))
        for name, path in named
        if name.as_posix() not in without and not any(part.startswith(".") for part in name.parts)
    )


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
