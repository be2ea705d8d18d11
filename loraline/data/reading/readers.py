"""From the bytes of a file to records, format by format; what cannot be read becomes a problem with its place."""

import codecs
import csv
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

import ijson
import pyarrow
import pyarrow.parquet

from loraline.data.chunk import Chunker
from loraline.data.normalize import UNDECODED, clean
from loraline.data.reading.records import Problem, Record
from loraline.data.reading.source_files import SourceFile, local_copy, opened

Outcome = Record | Problem
_LONGEST_FIELD = 16 << 20  # characters; a quote that is never closed swallows no more than this
_LONGEST_LINE = 1 << 16  # characters of plain text read at once
_PARQUET_BATCH = 128  # rows
_RECORDS_PER_WATCH = 500


def read_file(file: SourceFile, chunker: Chunker, watch: Callable[[int], None]) -> Iterator[Outcome]:
    """Read a file's records; `watch` hears now and then how many bytes of the file are done.

    What makes the rest of a file unreadable (a truncated stream, broken JSON) is its last outcome, a fatal problem.
    """
    count = 0
    with local_copy(file) as path:
        try:
            with opened(file, path) as stream:
                for count, outcome in enumerate(_outcomes(file, path, stream.bytes, chunker), 1):
                    if count % _RECORDS_PER_WATCH == 0:
                        watch(stream.position())
                    yield outcome
        except (OSError, pyarrow.ArrowInvalid, ijson.JSONError, UnicodeDecodeError) as error:
            reason = f"cannot be read after row {count}: {_one_line(error)}"
            yield Problem(file.name, count + 1, "", "unreadable file", reason, fatal=True)
    watch(file.size)


def _outcomes(file: SourceFile, path: Path, stream: BinaryIO, chunker: Chunker) -> Iterator[Outcome]:
    match file.format:
        case "jsonl":
            return read_jsonl(stream, file.name)
        case "json":
            return read_json(stream, file.name)
        case "csv":
            return read_delimited(stream, file.name, ",")
        case "tsv":
            return read_delimited(stream, file.name, "\t")
        case "txt":
            return read_text(stream, file.name, chunker)
        case "parquet":
            return read_parquet(path, file.name) if not file.compression else _unpacked_parquet(stream, file.name)
    raise AssertionError(f"no reader for {file.format!r}")


def _one_line(error: BaseException) -> str:
    # yajl's messages are bytes and draw an arrow under the place.
    text = error.args[0] if error.args else ""
    shown = text.decode(errors="replace") if isinstance(text, bytes) else str(error)
    return re.sub(r"\s*\(right here\) -*\^\s*", " ", " ".join(shown.split())).strip()


def read_jsonl(stream: BinaryIO, name: str) -> Iterator[Outcome]:
    """Read one JSON object a line; empty lines are passed over."""
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.removeprefix(codecs.BOM_UTF8).decode())
        except UnicodeDecodeError as error:
            reason = f"not UTF-8: byte 0x{error.object[error.start]:02x} at byte {error.start + 1} of the line"
            yield Problem(name, number, "", "invalid UTF-8", reason)
        except json.JSONDecodeError as error:
            reason = f"not JSON: {error.msg.removesuffix(' at')} at character {error.colno}"
            yield Problem(name, number, "", "invalid JSON", reason)
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, nesting without end
            yield Problem(name, number, "", "invalid JSON", f"not JSON that can be read: {error}")
        else:
            yield _object(value, name, number)


def _object(value: Any, name: str, number: int) -> Outcome:
    if isinstance(value, dict):
        return Record(name, number, value)
    reason = f"a row must be a JSON object, this is {type(value).__name__} {str(value)[:60]!r}"
    return Problem(name, number, "", "not an object", reason)


def read_json(stream: BinaryIO, name: str) -> Iterator[Outcome]:
    """Read a JSON array of objects, or objects one after the other; a row's number stands for its line."""
    assert isinstance(stream, io.BufferedReader)
    if stream.peek(3)[:3] == codecs.BOM_UTF8:
        stream.read(3)
    is_array = stream.peek(1).lstrip()[:1] == b"["
    values = ijson.items(stream, "item" if is_array else "", multiple_values=True, use_float=True)
    for number, value in enumerate(values, 1):
        yield _object(value, name, number)


def read_delimited(stream: BinaryIO, name: str, delimiter: str) -> Iterator[Outcome]:
    """Read CSV or TSV with a header line; a field in double quotes may hold line ends."""
    csv.field_size_limit(_LONGEST_FIELD)
    # Bytes that are not UTF-8 come through as lone surrogates, which the check of each field finds.
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        line = rows.line_num + 1
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(name, line, "", "malformed row", f"quotes or separators do not match: {error}")
            continue
        if not fields:
            continue
        if header:
            yield _delimited_row(header, fields, name, line)
            continue
        header = [clean(field).strip() for field in fields]
        doubled = sorted({column for column in header if header.count(column) > 1})
        if doubled:
            reason = f"the header names a column more than once: {', '.join(doubled)}"
            yield Problem(name, line, "", "malformed header", reason, fatal=True)
            return


def _delimited_row(header: list[str], fields: list[str], name: str, line: int) -> Outcome:
    if len(fields) == len(header):
        return Record(name, line, dict(zip(header, fields, strict=True)))
    reason = f"{len(fields)} fields where the header has {len(header)}"
    return Problem(name, line, "", "wrong number of fields", reason)


def read_parquet(path: Path, name: str) -> Iterator[Outcome]:
    """Read a parquet file batch by batch; a row's number stands for its line."""
    number = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_PARQUET_BATCH):
            for index in range(batch.num_rows):
                number += 1
                yield _parquet_row(batch, index, name, number)


def _parquet_row(batch: pyarrow.RecordBatch, index: int, name: str, number: int) -> Outcome:
    fields = {}
    for column in batch.schema.names:
        try:
            fields[column] = batch.column(column)[index].as_py()
        except UnicodeDecodeError as error:
            return Problem(name, number, column, "invalid UTF-8", f"not UTF-8: {error.reason}")
    return Record(name, number, fields)


def _unpacked_parquet(stream: BinaryIO, name: str) -> Iterator[Outcome]:
    with tempfile.NamedTemporaryFile(prefix="loraline-data-") as unpacked:  # parquet is read from its end
        copyfileobj(stream, unpacked)
        unpacked.flush()
        yield from read_parquet(Path(unpacked.name), name)


def read_text(stream: BinaryIO, name: str, chunker: Chunker) -> Iterator[Outcome]:
    """Read a plain text file as chunks; a line that is not UTF-8 is a problem and ends a paragraph."""
    problems: list[Problem] = []
    for chunk in chunker.chunks(_lines(stream, name, problems)):
        yield Record(name, chunk.line, {"text": chunk.text}, group=chunk.group)
        yield from problems
        problems.clear()
    yield from problems


def _lines(stream: BinaryIO, name: str, problems: list[Problem]) -> Iterator[tuple[int, str]]:
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape")
    number = 1
    while line := text.readline(_LONGEST_LINE):
        if UNDECODED.search(line):
            problems.append(Problem(name, number, "text", "invalid UTF-8", "the line is not UTF-8"))
            line = "\n"
        yield number, clean(line)
        number += line.endswith("\n")
