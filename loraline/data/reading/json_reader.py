"""Read JSON lines, JSON arrays and concatenated JSON objects."""

import codecs
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import ijson

from loraline.artifacts.dataset import RowProblem
from loraline.data.reading.encodings import encoding_hint
from loraline.data.reading.records import ReadResult, SourceRecord


def read_jsonl(stream: BinaryIO, file: str) -> Iterator[ReadResult]:
    """Read one JSON object a line. Empty lines are skipped."""
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.removeprefix(codecs.BOM_UTF8).decode())
        except UnicodeDecodeError as error:
            reason = f"not UTF-8: byte 0x{error.object[error.start]:02x} at byte {error.start + 1} of the line"
            reason += encoding_hint(error.object)
            yield RowProblem(file=file, line=number, kind="invalid UTF-8", reason=reason)
        except json.JSONDecodeError as error:
            reason = f"not JSON: {error.msg.removesuffix(' at')} at character {error.colno}"
            yield RowProblem(file=file, line=number, kind="invalid JSON", reason=reason)
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, unbounded nesting
            yield RowProblem(file=file, line=number, kind="invalid JSON", reason=f"JSON that cannot be parsed: {error}")
        else:
            yield _record(value, file, number)


def read_json(stream: BinaryIO, file: str) -> Iterator[ReadResult]:
    """Read a JSON array of objects, or concatenated objects. A record's line is its number in the file."""
    assert isinstance(stream, io.BufferedReader)
    if stream.peek(3)[:3] == codecs.BOM_UTF8:
        stream.read(3)
    is_array = stream.peek(1).lstrip()[:1] == b"["
    values = ijson.items(stream, "item" if is_array else "", multiple_values=True, use_float=True)
    for number, value in enumerate(values, 1):
        yield _record(value, file, number)


def _record(value: Any, file: str, number: int) -> ReadResult:
    if isinstance(value, dict):
        return SourceRecord(file, number, value)
    reason = f"a row must be a JSON object, this is {type(value).__name__} {str(value)[:60]!r}"
    return RowProblem(file=file, line=number, kind="not an object", reason=reason)
