"""Read the records of a file in any format."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import ijson
import pyarrow

from loraline.artifacts.dataset import RowProblem
from loraline.data.reading.chunker import Chunker
from loraline.data.reading.csv_reader import read_csv
from loraline.data.reading.encodings import as_utf8
from loraline.data.reading.json_reader import read_json, read_jsonl
from loraline.data.reading.parquet_reader import read_parquet
from loraline.data.reading.records import ReadResult
from loraline.data.reading.source_files import SourceFile, local_copy, open_decompressed
from loraline.data.reading.text_reader import read_text
from loraline.data.reading.xlsx_reader import read_xlsx

_RECORDS_PER_UPDATE = 500


def read_file(
    file: SourceFile, encoding: str, chunker: Chunker, on_bytes_read: Callable[[int], None]
) -> Iterator[ReadResult]:
    """Read a file's records. What makes the rest of a file unreadable is its last result, a fatal problem.

    Args:
        file: the file.
        encoding: of its text; auto: UTF-8, or by the byte order mark.
        chunker: cuts plain text into chunks.
        on_bytes_read: called from time to time with the number of bytes of the file that have been read.
    """
    count = 0
    with local_copy(file) as path:
        try:
            with open_decompressed(file, path) as stream:
                for count, result in enumerate(_read_format(file, path, as_utf8(stream.bytes, encoding), chunker), 1):
                    if count % _RECORDS_PER_UPDATE == 0:
                        on_bytes_read(stream.position())
                    yield result
        except (OSError, pyarrow.ArrowInvalid, ijson.JSONError, UnicodeDecodeError) as error:
            reason = f"cannot be read after row {count}: {_one_line(error)}"
            if file.format == "json" and "UTF8" in reason:
                reason += "; if it is not UTF-8, name its encoding, such as data.encoding=cp1252"
            yield RowProblem(file=file.name, line=count + 1, kind="unreadable file", reason=reason, fatal=True)
    on_bytes_read(file.size)


def _read_format(file: SourceFile, path: Path, stream: BinaryIO, chunker: Chunker) -> Iterator[ReadResult]:
    readers: dict[str, Callable[[], Iterator[ReadResult]]] = {
        "jsonl": lambda: read_jsonl(stream, file.name),
        "json": lambda: read_json(stream, file.name),
        "csv": lambda: read_csv(stream, file.name, ","),
        "tsv": lambda: read_csv(stream, file.name, "\t"),
        "txt": lambda: read_text(stream, file.name, chunker),
        "xlsx": lambda: read_xlsx(path, file.name),
        "parquet": lambda: read_parquet(path, file.name),
    }
    return readers[file.format]()


def _one_line(error: BaseException) -> str:
    # yajl's messages are bytes, with an arrow under the position of the error.
    text = error.args[0] if error.args else ""
    shown = text.decode(errors="replace") if isinstance(text, bytes) else str(error)
    return re.sub(r"\s*\(right here\) -*\^\s*", " ", " ".join(shown.split())).strip()
