"""Open a source by its name: local files, the object store, a Hugging Face dataset, or a built-in dataset."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from loraline.artifacts.dataset import RowProblem
from loraline.data.config import SourceAddress
from loraline.data.reading.chunker import Chunker
from loraline.data.reading.file_reader import read_file
from loraline.data.reading.records import ReadResult, SourceRecord
from loraline.data.reading.source_files import SourceFile, list_files
from loraline.errors import DatasetError
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


def find_source(address: SourceAddress, file_format: str, chunker: Chunker) -> DatasetSource:
    """Find a source.

    Args:
        address: where it is.
        file_format: `data.format`.
        chunker: cuts plain text into chunks.

    Raises:
        DatasetError: there is nothing of that name, or its file format is unknown.
        StorageError: the object store cannot be reached or refuses access.
    """
    name = address.source
    if name.startswith("hf://"):
        return DatasetSource(name, None, lambda _: _hub_records(address))
    if name.startswith(BUILTIN):
        return DatasetSource(name, None, lambda _: _builtin_records(name))
    files = list_files(name, file_format)
    size = sum(file.size for file in files)
    return DatasetSource(name, size, lambda on_bytes_read: _file_records(files, chunker, on_bytes_read))


def _file_records(
    files: list[SourceFile], chunker: Chunker, on_bytes_read: Callable[[int], None]
) -> Iterator[ReadResult]:
    read_before = 0
    for file in files:
        yield from read_file(file, chunker, lambda read, before=read_before: on_bytes_read(before + read))  # type: ignore[misc]
        read_before += file.size


def _builtin_records(name: str) -> Iterator[ReadResult]:
    for number, fields in enumerate(builtin_rows(name), 1):
        yield SourceRecord(name, number, fields)


def _hub_records(address: SourceAddress) -> Iterator[ReadResult]:
    import datasets

    name, revision, subset, split = address
    location = f"{name}/{subset}/{split}" if subset else f"{name}/{split}"
    number = 0
    try:
        rows = datasets.load_dataset(
            name.removeprefix("hf://"), subset or None, split=split, revision=revision or None, streaming=True
        )
        for number, fields in enumerate(rows, 1):
            yield SourceRecord(location, number, fields)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if number:
            reason = f"cannot be read after row {number}: {error}"
            yield RowProblem(file=location, line=number + 1, kind="unreadable file", reason=reason, fatal=True)
            return
        raise DatasetError(
            f"cannot read {location} at revision {revision or 'main'!r}: {error}. Check data.source, data.subset, "
            "data.split and data.revision; a private dataset needs HF_TOKEN"
        ) from error
