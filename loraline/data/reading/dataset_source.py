"""Open a source by its name: local files, the object store, a Hugging Face dataset, or a built-in dataset."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from loraline.artifacts.dataset import RowProblem
from loraline.data.reading.chunker import Chunker
from loraline.data.reading.file_reader import read_file
from loraline.data.reading.records import ReadResult, SourceRecord
from loraline.data.reading.source_files import SourceFile, list_files
from loraline.data.source_address import SourceAddress
from loraline.data.source_config import SourceRequest
from loraline.errors import ConfigurationError, DatasetError
from loraline.quickstart.builtin_datasets import SCHEME as BUILTIN
from loraline.quickstart.builtin_datasets import builtin_rows


@dataclass(frozen=True)
class DatasetSource:
    """A source that was found and is ready to be read."""

    name: str
    size: int | None
    """Total size of its files in bytes, as stored; None where it has no files."""
    read: Callable[[Callable[[int], None]], Iterator[ReadResult]]
    """Read the records; the argument is called from time to time with the number of bytes read."""


def find_source(request: SourceRequest, chunker: Chunker) -> DatasetSource:
    """Find a source.

    Args:
        request: where it is, and which of its rows are wanted.
        chunker: cuts plain text into chunks.

    Raises:
        ConfigurationError: a setting has no effect on it.
        DatasetError: there is nothing of that name, or its file format is unknown.
        StorageError: the object store cannot be reached or refuses access.
    """
    source = request.address.source
    if source.startswith(("hf://", BUILTIN)):
        _refuse_file_settings(request)
    if source.startswith("hf://"):
        return DatasetSource(request.name, None, lambda _: _hub_records(request))
    if source.startswith(BUILTIN):
        return DatasetSource(request.name, None, lambda _: _part(request, lambda: _builtin_records(source)))
    files = list_files(source, request.file_format)
    size = sum(file.size for file in files)

    def read(on_bytes_read: Callable[[int], None]) -> Iterator[ReadResult]:
        return _part(request, lambda: _file_records(files, request.encoding, chunker, on_bytes_read))

    return DatasetSource(request.name, size, read)


def _refuse_file_settings(request: SourceRequest) -> None:
    for name, value in (("format", request.file_format), ("encoding", request.encoding)):
        if value != "auto":
            raise ConfigurationError(
                f"{name} = {value!r} has no effect on data.{request.setting} = {request.name!r}, which has no files to "
                "decode; remove the setting, or give it to the entry of the source that it is for"
            )


def _part(request: SourceRequest, read: Callable[[], Iterator[ReadResult]]) -> Iterator[ReadResult]:
    """Read the part of a source that a request wants; a share of its rows takes a pass that counts them."""
    total = sum(1 for _ in read()) if request.rows.needs_total else None
    start, stop = request.rows.bounds(total, request.max_rows)
    return read() if (start, stop) == (0, None) else islice(read(), start, stop)


def _file_records(
    files: list[SourceFile], encoding: str, chunker: Chunker, on_bytes_read: Callable[[int], None]
) -> Iterator[ReadResult]:
    read_before = 0
    for file in files:
        yield from read_file(file, encoding, chunker, lambda read, before=read_before: on_bytes_read(before + read))  # type: ignore[misc]
        read_before += file.size


def _builtin_records(name: str) -> Iterator[ReadResult]:
    for number, fields in enumerate(builtin_rows(name), 1):
        yield SourceRecord(name, number, fields)


def _hub_records(request: SourceRequest) -> Iterator[ReadResult]:
    import datasets

    name, revision, subset, split = request.address
    location = f"{name}/{subset}/{split}" if subset else f"{name}/{split}"
    number = first = 0
    try:
        rows = datasets.load_dataset(
            name.removeprefix("hf://"), subset or None, split=split, revision=revision or None, streaming=True
        )
        total = _hub_rows(rows, request.address) if request.rows.needs_total else None
        first, stop = request.rows.bounds(total, request.max_rows)
        part = rows.skip(first) if first else rows
        for number, fields in enumerate(part if stop is None else part.take(max(0, stop - first)), first + 1):
            yield SourceRecord(location, number, fields, has_filled_nulls=True)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if number > first:
            reason = f"cannot be read after row {number}: {error}"
            yield RowProblem(file=location, line=number + 1, kind="unreadable file", reason=reason, fatal=True)
            return
        raise DatasetError(
            f"cannot read {location} at revision {revision or 'main'!r}: {error}. Check data.{request.setting}, "
            "data.subset, data.split and data.revision; a private dataset needs HF_TOKEN"
        ) from error


def _hub_rows(rows: Any, address: SourceAddress) -> int:
    """Number of rows of a split: as the Hub states it, or counted."""
    splits = rows.info.splits or {}
    stated = splits[address.split].num_examples if address.split in splits else 0
    return stated or sum(1 for _ in rows)
