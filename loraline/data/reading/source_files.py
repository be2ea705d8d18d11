"""The files of a source: list them, detect their format, and open them decompressed."""

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
    ".xlsx": "xlsx",
    ".txt": "txt",
}
_BUFFER_BYTES = 1 << 18


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    name: str
    """Its path as written in the recipe, or its S3 address."""
    size: int
    """Size in bytes, as stored."""
    format: str

    @property
    def compression(self) -> str | None:
        """pyarrow's name of the compression, None where there is none."""
        return _COMPRESSIONS.get(PurePosixPath(self.name).suffix.lower())


def list_files(source: str, file_format: str) -> list[SourceFile]:
    """List a source's files sorted by name, all of one format.

    Raises:
        DatasetError: there are no files, their format is unknown, or they cannot be read in it.
        StorageError: the object store cannot be reached or refuses access.
    """
    found = _list_s3(source) if source.startswith("s3://") else _list_local(source)
    if not found:
        raise DatasetError(f"data source {source!r} is empty or does not exist; check the path")
    if len(found) == 1 and file_format != "auto":
        files = [SourceFile(found[0][0], found[0][1], file_format)]
    else:
        files = [SourceFile(name, size, _format_of(name)) for name, size in found]
        files = [file for file in files if file.format and file_format in ("auto", file.format)]
    if not files:
        expected = "with a known file format" if file_format == "auto" else f"of the format {file_format!r}"
        raise DatasetError(
            f"data source {source!r} contains no file {expected}, judging by the name; found "
            f"{_first([name for name, _ in found])}. Known suffixes: {', '.join(_FORMATS)}, all but .parquet "
            "and .xlsx optionally followed by .gz or .zst. For a single file with another suffix set data.format; "
            "save .xls and .ods as .xlsx or .csv."
        )
    _check_formats(source, files)
    return files


def _check_formats(source: str, files: list[SourceFile]) -> None:
    formats = sorted({file.format for file in files})
    if len(formats) > 1:
        raise DatasetError(
            f"data source {source!r} contains files of several formats ({', '.join(formats)}); "
            "set data.format to the one to read"
        )
    compressed = [file.name for file in files if file.format in ("parquet", "xlsx") and file.compression]
    if compressed:
        raise DatasetError(
            f"{_first(compressed)}: compressed {formats[0]} files are not supported, because {formats[0]} is read from "
            f"its end and compressed by itself; decompress the file (gunzip, zstd -d) and name the .{formats[0]} file"
        )


def _list_local(source: str) -> list[tuple[str, int]]:
    path = Path(source).expanduser()
    if path.is_file():
        return [(source, path.stat().st_size)]
    inside = sorted(path.rglob("*"), key=lambda file: file.relative_to(path).as_posix())
    visible = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    return [
        (f"{source.rstrip('/')}/{file.relative_to(path).as_posix()}", file.stat().st_size)
        for file in visible
        if file.is_file()
    ]


def _list_s3(source: str) -> list[tuple[str, int]]:
    bucket = storage.S3Url.parse(source).bucket
    return [(str(storage.S3Url(bucket, item.key)), item.size) for item in storage.list_objects(source)]


def _format_of(name: str) -> str:
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        suffixes.pop()
    return _FORMATS.get(suffixes[-1], "") if suffixes else ""


def _first(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:5]) + (" and others" if len(names) > 5 else "")


class DecompressedFile:
    """A file's decompressed bytes, and the position in the file as stored."""

    def __init__(self, path: Path, compression: str | None) -> None:
        self._file = pyarrow.OSFile(str(path))
        # Unlike the zstandard package, pyarrow raises on a truncated stream instead of ending it early.
        decompressed = pyarrow.CompressedInputStream(self._file, compression) if compression else self._file
        self.bytes = io.BufferedReader(decompressed, _BUFFER_BYTES)

    def position(self) -> int:
        """Number of bytes of the stored file that have been read."""
        return 0 if self._file.closed else self._file.tell()


@contextmanager
def local_copy(file: SourceFile) -> Iterator[Path]:
    """Yield the file's local path. An object in S3 is downloaded to a temporary folder while it is read."""
    if not file.name.startswith("s3://"):
        yield Path(file.name).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="loraline-data-") as folder:
        key = storage.S3Url.parse(file.name).key
        storage.download(file.name, Path(folder))
        yield Path(folder) / key.rsplit("/", 1)[-1]


@contextmanager
def open_decompressed(file: SourceFile, path: Path) -> Iterator[DecompressedFile]:
    """Open a file's decompressed bytes."""
    stream = DecompressedFile(path, file.compression)
    try:
        yield stream
    finally:
        stream.bytes.close()
