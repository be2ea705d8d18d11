"""Text in other encodings than UTF-8, as the UTF-8 that every reader takes."""

import codecs
import io
from typing import BinaryIO

# UTF-32's mark begins with that of UTF-16.
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
_MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_CHARACTERS_PER_READ = 1 << 17
_SHOWN_CHARACTERS = 40


def as_utf8(stream: BinaryIO, encoding: str) -> BinaryIO:
    """The stream as UTF-8. Bytes that the encoding does not have stay as they are, for the reader to report.

    Args:
        stream: buffered bytes.
        encoding: a codec's name; auto: UTF-16 and UTF-32 by their byte order mark, else the stream itself.
    """
    assert isinstance(stream, io.BufferedReader)
    if encoding == "auto":
        start = stream.peek(4)[:4]
        encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")
    return stream if encoding == "utf-8" else io.BufferedReader(_Transcoder(stream, encoding))


class _Transcoder(io.RawIOBase):
    """The bytes of a stream, decoded and encoded as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        # newline="": line ends stay as they are, for the reader that knows its format
        self._text = io.TextIOWrapper(stream, encoding, errors="surrogateescape", newline="")
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._pending:
            self._pending = self._text.read(_CHARACTERS_PER_READ).encode("utf-8", errors="surrogateescape")
        part = self._pending[: len(buffer)]
        buffer[: len(part)] = part
        self._pending = self._pending[len(part) :]
        return len(part)


def encoding_hint(line: bytes) -> str:
    """The setting that decodes a line which is not UTF-8, with what it then says; empty where none does."""
    for encoding in ("cp1252", "latin-1"):
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError:
            continue
        place = next(number for number, character in enumerate(text) if not character.isascii())
        shown = text[max(0, place - _SHOWN_CHARACTERS // 2) :][:_SHOWN_CHARACTERS].strip()
        return f"; data.encoding={encoding} reads {shown!r}"
    return ""
