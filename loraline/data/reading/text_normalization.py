"""Normalize text: Unicode NFC, line feeds, no control characters."""

import re
import unicodedata

UNDECODABLE = re.compile("[\ud800-\udfff]")
"""Lone surrogates: bytes that were not UTF-8, or a broken escape sequence in JSON."""

# Control characters except tab and line feed, and the byte order mark anywhere in the text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")


def normalize(text: str) -> str:
    """Return text in Unicode NFC with line feeds as line ends, without control characters and byte order marks."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROL.sub("", text)
    return text if text.isascii() else unicodedata.normalize("NFC", text)
