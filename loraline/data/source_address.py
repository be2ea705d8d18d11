"""Addresses of rows: `my.jsonl[:1000]`, `s3://bucket/rows/`, `hf://owner/dataset/config@split[:1%]` and the like."""

import re
from dataclasses import dataclass
from typing import NamedTuple

_SLICE = re.compile(r"\[(?P<start>-?\d+(?:\.\d+)?%?)?:(?P<stop>-?\d+(?:\.\d+)?%?)?\]$")
_HUB = "hf://"


class SourceAddress(NamedTuple):
    """Where rows are."""

    source: str
    """Path, s3://, hf://owner/dataset or builtin:, without split and slice."""
    revision: str
    """Of a Hugging Face dataset, as are subset and split."""
    subset: str
    split: str


@dataclass(frozen=True)
class RowSlice:
    """A part of a source's rows, as Python slices a list; a bound with % is a share of all rows.

    The bounds are texts such as "100", "-100" (from the end), "10%", or "".
    """

    start: str = ""
    stop: str = ""

    @property
    def needs_total(self) -> bool:
        """Whether the number of all rows must be known."""
        return any(bound.endswith("%") or bound.startswith("-") for bound in (self.start, self.stop))

    def bounds(self, total: int | None, most: int = 0) -> tuple[int, int | None]:
        """The first row (from 0) and the one after the last; None: to the end.

        Args:
            total: number of all rows; may be None where it is not needed.
            most: largest number of rows; 0: any.
        """
        start, stop = _position(self.start, total) or 0, _position(self.stop, total)
        if most:
            stop = start + most if stop is None else min(stop, start + most)
        return start, stop

    def __str__(self) -> str:
        return f"[{self.start}:{self.stop}]" if self.start or self.stop else ""


def _position(bound: str, total: int | None) -> int | None:
    if not bound:
        return None
    if not (bound.endswith("%") or bound.startswith("-")):
        return int(bound)
    assert total is not None
    value = float(bound.rstrip("%"))
    position = round(total * value / 100) if bound.endswith("%") else int(value)
    return min(total, max(0, position + total if value < 0 else position))


def split_slice(text: str) -> tuple[str, RowSlice]:
    """Cut the slice off the end of an address or of a split's name.

    Raises:
        ValueError: a bound is no whole number.
    """
    found = _SLICE.search(text)
    if not found:
        return text, RowSlice()
    rows = RowSlice(found["start"] or "", found["stop"] or "")
    for bound in (rows.start, rows.stop):
        if "." in bound and not bound.endswith("%"):
            raise ValueError(f"{text!r}: {bound} is no number of rows; write a whole number, or a share such as 2.5%")
    return text[: found.start()], rows


def parse_address(text: str) -> tuple[SourceAddress, RowSlice]:
    """Parse an address; of `hf://owner/dataset/config@split[:1%]` all but owner/dataset may be left out.

    Raises:
        ValueError: it is malformed.
    """
    bare, rows = split_slice(text)
    if not bare.startswith(_HUB):
        return SourceAddress(bare, "", "", ""), rows
    path, _, split = bare.removeprefix(_HUB).partition("@")
    parts = path.split("/")
    if len(parts) > 3 or not all(parts):
        raise ValueError(
            f"{text!r} is no address of a Hugging Face dataset; write hf://owner/dataset, hf://owner/dataset/config, "
            "and after it @split and a slice where wanted: hf://owner/dataset/config@train[:1%]"
        )
    return SourceAddress(_HUB + "/".join(parts[:2]), "", parts[2] if len(parts) == 3 else "", split), rows
