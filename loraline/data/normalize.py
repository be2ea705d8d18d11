"""One spelling for the same text: Unicode, line ends, and characters that nobody meant to write."""

import re
import unicodedata

UNDECODED = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs: bytes that were not UTF-8, or a broken escape in JSON."""

# Control characters but tab and line feed, and the byte order mark, wherever it strayed.
_STRAY = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")


def clean(text: str) -> str:
    """Put text into Unicode NFC with line feeds for line ends, without control characters or byte order marks."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _STRAY.sub("", text)
    return text if text.isascii() else unicodedata.normalize("NFC", text)
