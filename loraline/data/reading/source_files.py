"""The files of a source: where they are, what format they have, and their bytes without compression."""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow

from loraline import storage
from loraline.errors import DatasetError

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "txt",
}
_READ_AHEAD = 1 << 18  # bytes


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    name: str
    """What messages call it: the path as the recipe wrote it, or its S3 address."""
    size: int
    """Bytes as they lie, compressed or not."""
    format: str

    @property
    def compression(self) -> str | None:
        """Name of the compression in pyarrow, None where there is none."""
        return _COMPRESSIONS.get(PurePosixPath(self.name).suffix.lower())


def list_files(source: str, wanted_format: str) -> list[SourceFile]:
    """List a source's files sorted by name, all of one format.

    Raises:
        DatasetError: nothing is there, or the format cannot be told.
        StorageError: the object store is away or refuses.
    """
    found = _stored(source) if source.startswith("s3://") else _local(source)
    if not found:
        raise DatasetError(f"data source {source!r} is empty or does not exist; check the path")
    if len(found) == 1 and wanted_format != "auto":
        return [SourceFile(found[0][0], found[0][1], wanted_format)]
    files = [SourceFile(name, size, _format_of(name)) for name, size in found]
    files = [file for file in files if file.format and wanted_format in ("auto", file.format)]
    formats = sorted({file.format for file in files})
    if not formats:
        what = "that Loraline knows" if wanted_format == "auto" else repr(wanted_format)
        raise DatasetError(
            f"data source {source!r} holds no file of a format {what}, by its name; found "
            f"{_first([name for name, _ in found])}. Known endings: {', '.join(_FORMATS)}, each with .gz or .zst "
            "behind it or not. For a single file named otherwise set data.format."
        )
    if len(formats) > 1:
        raise DatasetError(
            f"data source {source!r} holds files of several formats ({', '.join(formats)}); "
            "set data.format to the one that holds the rows"
        )
    return files


def _local(source: str) -> list[tuple[str, int]]:
    path = Path(source).expanduser()
    if path.is_file():
        return [(source, path.stat().st_size)]
    inside = sorted(path.rglob("*"), key=lambda file: file.relative_to(path).as_posix())
    shown = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    return [
        (f"{source.rstrip('/')}/{file.relative_to(path).as_posix()}", file.stat().st_size)
        for file in shown
        if file.is_file()
    ]


def _stored(source: str) -> list[tuple[str, int]]:
    bucket = storage.S3Url.parse(source).bucket
    return [(str(storage.S3Url(bucket, item.key)), item.size) for item in storage.list_objects(source)]


def _format_of(name: str) -> str:
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        suffixes.pop()
    return _FORMATS.get(suffixes[-1], "") if suffixes else ""


def _first(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:5]) + (" and others" if len(names) > 5 else "")


class FileStream:
    """A file's bytes without compression, and how many bytes of the file have been read for them."""

    def __init__(self, path: Path, compression: str | None) -> None:
        self._file = pyarrow.OSFile(str(path))
        # Unlike the zstandard package, pyarrow refuses a truncated stream rather than end it early.
        plain = pyarrow.CompressedInputStream(self._file, compression) if compression else self._file
        self.bytes = io.BufferedReader(plain, _READ_AHEAD)

    def position(self) -> int:
        """Bytes of the file as it lies that have been read."""
        return 0 if self._file.closed else self._file.tell()


@contextmanager
def local_copy(file: SourceFile) -> Iterator[Path]:
    """Give the file's path on this machine; an object of the store is brought here for as long as it is read."""
    if not file.name.startswith("s3://"):
        yield Path(file.name).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="loraline-data-") as folder:
        key = storage.S3Url.parse(file.name).key
        storage.download(file.name, Path(folder))
        yield Path(folder) / key.rsplit("/", 1)[-1]


@contextmanager
def opened(file: SourceFile, path: Path) -> Iterator[FileStream]:
    """Open a file's bytes without compression."""
    stream = FileStream(path, file.compression)
    try:
        yield stream
    finally:
        stream.bytes.close()
