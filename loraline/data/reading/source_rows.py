"""A source by its name: files here or in the object store, a Hugging Face dataset, or one built in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from loraline.data.chunk import Chunker
from loraline.data.config import DataConfig
from loraline.data.reading.readers import Outcome, read_file
from loraline.data.reading.records import Problem, Record
from loraline.data.reading.source_files import SourceFile, list_files
from loraline.errors import ConfigurationError, DatasetError

Role = Literal["source", "eval_source", "general_source"]


@dataclass(frozen=True)
class Source:
    """Where rows come from, found and ready to be read."""

    name: str
    size: int | None
    """Bytes of its files as they lie; None where it has no files of its own."""
    read: Callable[[Callable[[int], None]], Iterator[Outcome]]
    """Read the rows; what it is given hears now and then how many bytes are done."""


def find_source(config: DataConfig, chunker: Chunker, role: Role = "source") -> Source:
    """Find the recipe's `source`, its `eval_source` or its `general_source`.

    Raises:
        DatasetError: it is not there, or its format cannot be told.
        StorageError: the object store is away or refuses.
    """
    name, subset, split, revision = {
        "source": (config.source, config.subset, config.split, config.revision),
        "eval_source": (config.eval_source, config.subset, config.eval_split, config.eval_revision),
        "general_source": (config.general_source, "", "train", config.general_revision),
    }[role]
    if name.startswith("hf://"):
        return Source(name, None, lambda _: _hub_rows(name, subset, split, revision))
    if name.startswith("builtin:"):
        return Source(name, None, lambda _: _builtin_rows(name))
    files = list_files(name, config.format)
    return Source(name, sum(file.size for file in files), lambda watch: _file_rows(files, chunker, watch))


def _file_rows(files: list[SourceFile], chunker: Chunker, watch: Callable[[int], None]) -> Iterator[Outcome]:
    before = 0
    for file in files:
        yield from read_file(file, chunker, lambda done, before=before: watch(before + done))  # type: ignore[misc]
        before += file.size


def _builtin_rows(name: str) -> Iterator[Outcome]:
    from loraline.quickstart import dates

    try:
        rows = dates.rows(name.removeprefix("builtin:"))
    except ConfigurationError as error:
        raise DatasetError(str(error)) from error
    for number, fields in enumerate(rows, 1):
        yield Record(name, number, fields)


def _hub_rows(name: str, subset: str, split: str, revision: str) -> Iterator[Outcome]:
    import datasets

    place = f"{name}/{subset}/{split}" if subset else f"{name}/{split}"
    number = 0
    try:
        rows = datasets.load_dataset(
            name.removeprefix("hf://"), subset or None, split=split, revision=revision or None, streaming=True
        )
        for number, fields in enumerate(rows, 1):
            yield Record(place, number, fields)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if number:
            reason = f"cannot be read after row {number}: {error}"
            yield Problem(place, number + 1, "", "unreadable file", reason, fatal=True)
            return
        raise DatasetError(
            f"cannot read {place} at revision {revision or 'main'!r}: {error}. Check data.source, data.subset, "
            "data.split and data.revision; a private dataset needs HF_TOKEN"
        ) from error
