"""Read plain text files as chunks."""

import io
from collections.abc import Iterator
from typing import BinaryIO

from loraline.artifacts.dataset import RowProblem
from loraline.data.reading.chunker import Chunker, numbered_lines
from loraline.data.reading.encodings import encoding_hint
from loraline.data.reading.records import ReadResult, SourceRecord
from loraline.data.reading.text_normalization import UNDECODABLE, normalize


def read_text(stream: BinaryIO, file: str, chunker: Chunker) -> Iterator[ReadResult]:
    """Read a plain text file as chunks. A line that is not UTF-8 is reported and ends a paragraph."""
    problems: list[RowProblem] = []
    for chunk in chunker.chunks(_normalized_lines(stream, file, problems)):
        yield SourceRecord(file, chunk.line, {"text": chunk.text}, group=chunk.group)
        yield from problems
        problems.clear()
    yield from problems


def _normalized_lines(stream: BinaryIO, file: str, problems: list[RowProblem]) -> Iterator[tuple[int, str]]:
    for number, line in numbered_lines(io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape")):
        if UNDECODABLE.search(line):
            reason = f"the line is not UTF-8{encoding_hint(line.encode('utf-8', errors='surrogateescape'))}"
            problems.append(RowProblem(file=file, line=number, column="text", kind="invalid UTF-8", reason=reason))
            yield number, "\n"
        else:
            yield number, normalize(line)
