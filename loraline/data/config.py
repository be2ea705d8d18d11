"""Settings of the data."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from loraline.config import StepConfig
from loraline.data.source_address import SourceAddress, parse_address, split_slice
from loraline.data.source_config import Columns, DataSource, Encoding, FileFormat, SourceRequest, Sources
from loraline.quickstart.builtin_datasets import GENERAL

_SOURCE_FIELDS = {"source": "revision", "eval_source": "eval_revision", "general_source": "general_revision"}
"""The fields that name sources, each with the field for the revision of a single one."""


class DataConfig(StepConfig):
    """Where rows come from and which of them are used."""

    source: Sources
    """Where the rows are: a local file or folder, `s3://bucket/key`, `hf://owner/dataset/config@split`, or
    `builtin:dates`; each may end in a slice: `my.jsonl[:1000]`, `hf://owner/dataset@train[:1%]`. Several sources are a
    list of addresses or of mappings with source, revision, format, encoding, columns, weight and max_rows."""
    eval_source: Sources = ""
    """Rows to evaluate on, named like `source`. Empty: a fraction of `source` is held out."""
    general_source: Sources = GENERAL
    """General evaluation set to measure forgetting on, never trained on; named like `source`, whose format, encoding
    and columns do not hold for it: `{source: ..., columns: ...}` gives it its own. The default comes with Loraline:
    questions of many kinds. Empty: forgetting on general rows is not measured, and the verdict says so."""
    revision: str = ""
    """Commit, tag or branch of a Hugging Face dataset. It is pinned to a commit before anything is read."""
    eval_revision: str = ""
    """Revision of `eval_source`, if that is a Hugging Face dataset."""
    general_revision: str = ""
    """Revision of `general_source`, if that is a Hugging Face dataset. Its split "train" is read."""
    subset: str = ""
    """Configuration name of a Hugging Face dataset, where `source` is one address that does not name it."""
    split: str = "train"
    """Split of a Hugging Face dataset, where `source` does not name it. It may be a slice: `train[:1%]`."""
    eval_split: str = "test"
    """Split of `eval_source`, if that is a Hugging Face dataset."""
    format: FileFormat = "auto"
    """File format. auto: by the file name. All but parquet and xlsx may be compressed (.gz, .zst)."""
    encoding: Encoding = "auto"
    """Text encoding of the files, such as cp1252 or latin-1. auto: UTF-8, or UTF-16 and UTF-32 by their byte order
    mark."""
    columns: Columns = Columns()
    """Names of the columns of `source` and `eval_source`. Empty: detected from the column names."""
    max_rows: int = Field(default=0, ge=0)
    """At most this many rows of each source to train on, its first ones, are read. 0: all."""
    max_bad_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Fraction of rows (0 to 1) that may be dropped as invalid. 0: the first invalid row fails the run."""
    eval_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Fraction of rows (0 to 1) held out for evaluation, chosen by a hash of the prompt."""
    chunk_tokens: int = Field(default=512, ge=16)
    """Plain text (txt files and `text` columns) with more tokens is cut into chunks of at most this many, at sentence
    ends, or of what `training.max_length` holds, if that is less. Refused if no source is plain text."""
    chunk_overlap: int = Field(default=64, ge=0)
    """Tokens that a chunk may repeat, in whole sentences, from the one before. Smaller than `chunk_tokens`."""
    near_duplicates: Literal["report", "drop"] = "report"
    """What is done about near-duplicate rows: report them, or drop all but one."""
    near_duplicate_similarity: float = Field(default=0.85, gt=0.0, le=1.0)
    """Jaccard similarity of two rows' word trigrams (0 to 1) from which they are near-duplicates."""
    personal_data: Literal["report", "mask", "drop"] = "report"
    """What is done about e-mail addresses, phone numbers, keys and the like: report them, replace them by [EMAIL] and
    so on, or drop their rows."""

    def requests(self) -> dict[str, list[SourceRequest]]:
        """The sources that are read, by field: `source`, `eval_source`, `general_source`."""
        return {field: self._requests(field) for field in _SOURCE_FIELDS}

    def addresses(self) -> dict[str, SourceAddress]:
        """Where the rows of all sources are, by the setting that names the source."""
        return {one.setting: one.address for requests in self.requests().values() for one in requests}

    def pinned(self, revisions: Mapping[str, str]) -> Self:
        """The settings with these revisions, by the settings of `addresses`."""
        changed: dict[str, Any] = {}
        for field, revision in _SOURCE_FIELDS.items():
            sources = getattr(self, field)
            if isinstance(sources, str):
                changed[revision] = revisions.get(field, getattr(self, revision))
            else:
                changed[field] = tuple(
                    source.model_copy(update={"revision": revisions.get(f"{field}[{number}]", source.revision)})
                    for number, source in enumerate(sources)
                )
        return self.model_copy(update=changed)

    def names(self, field: str = "source") -> str:
        """The addresses of a field's sources, for people to read."""
        return ", ".join(one.name for one in self._requests(field))

    def revisions(self) -> str:
        """The revisions of the sources to train on, as far as they have any."""
        return ", ".join(one.address.revision for one in self._requests("source") if one.address.revision)

    def _requests(self, field: str) -> list[SourceRequest]:
        sources = getattr(self, field)
        if isinstance(sources, str):
            given = [DataSource(source=sources, revision=getattr(self, _SOURCE_FIELDS[field]))] if sources else []
            return [self._request(field, field, one) for one in given]
        return [self._request(field, f"{field}[{number}]", one) for number, one in enumerate(sources)]

    def _request(self, field: str, setting: str, source: DataSource) -> SourceRequest:
        general = field == "general_source"
        address, rows = parse_address(source.source)
        split, subset = {"source": self.split, "eval_source": self.eval_split}.get(field, "train"), ""
        if not general and isinstance(getattr(self, field), str):
            subset = self.subset
        split, split_rows = split_slice(split)
        return SourceRequest(
            setting=setting,
            name=source.source,
            address=SourceAddress(address.source, source.revision, address.subset or subset, address.split or split),
            rows=rows if str(rows) or not address.source.startswith("hf://") or address.split else split_rows,
            file_format=source.format if general or source.format != "auto" else self.format,
            encoding=source.encoding if general or source.encoding != "auto" else self.encoding,
            columns=source.columns if general or source.columns != Columns() else self.columns,
            weight=source.weight,
            max_rows=source.max_rows or (self.max_rows if field == "source" else 0),
        )

    @model_validator(mode="after")
    def _consistent_sources(self) -> Self:
        for field, requests in self.requests().items():
            revision = _SOURCE_FIELDS[field]
            if not isinstance(getattr(self, field), str) and getattr(self, revision):
                raise ValueError(
                    f"{revision} = {getattr(self, revision)!r} has no effect, since {field} is a list; write the "
                    "revision into its entry"
                )
            for one in requests:
                if one.weight != 1 and field != "source":
                    raise ValueError(
                        f"{one.setting}: the weight {one.weight} of {one.name!r} has no effect, since its rows are not "
                        "trained on; only sources of data.source have weights"
                    )
                subset = parse_address(one.name)[0].subset
                if isinstance(getattr(self, field), str) and subset and self.subset and subset != self.subset:
                    raise ValueError(
                        f"{one.setting} = {one.name!r} names the configuration {subset!r}, and subset = "
                        f"{self.subset!r} another; name it in one place"
                    )
        return self

    @model_validator(mode="after")
    def _overlap_below_chunk(self) -> Self:
        if self.chunk_overlap >= self.chunk_tokens:
            raise ValueError(
                f"chunk_overlap must be smaller than chunk_tokens, got {self.chunk_overlap} and {self.chunk_tokens}"
            )
        return self
