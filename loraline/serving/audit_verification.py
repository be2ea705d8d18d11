"""Whether an audit trail is what was written, and where not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loraline.errors import ConfigurationError, StorageError
from loraline.serving.audit import START, Record, parse

_HEAD = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Break:
    """The first place where a trail is not what was written."""

    line: int
    """Counted from 1."""
    how: Literal["edited", "removed", "reordered", "truncated"]
    detail: str


@dataclass(frozen=True)
class Verification:
    """What was found."""

    records: int
    """Records up to the break, or all."""
    head: str
    """Hash of the last of them."""
    torn: int
    """Records that were cut off while they were written, and that a later one vouches for."""
    unfinished: int
    """Bytes of a last line that was cut off; the next record that is written will vouch for it."""
    broken: Break | None


def verify(path: Path, head: str = "") -> Verification:
    """Follow a trail's chain from its first record to its last.

    Args:
        path: the trail.
        head: a hash that was the trail's head once. A trail that does not hold it has lost its end since, or
            is another one.

    Raises:
        ConfigurationError: the head is no hash.
        StorageError: the file cannot be read.
    """
    if head and not _HEAD.fullmatch(head):
        raise ConfigurationError(f"the head is {head!r}; give the 64 hexadecimal digits that `audit verify` printed")
    walk = _Walk(path)
    broken = walk.follow(head)
    if broken is None and head not in ("", START) and not walk.seen:
        broken = Break(walk.lines + 1, "truncated", f"after record {walk.due - 1} it ends, and {head} has not come")
    return Verification(walk.due, walk.previous, walk.torn, walk.unfinished, broken)


class _Walk:
    """The way along a trail, and how far it has come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines = 0
        self.due = 0  # number of the next record
        self.previous = START
        self.torn = 0
        self.unfinished = 0
        self.seen = False  # the head

    def follow(self, head: str) -> Break | None:
        """Go to the end, or to the first break."""
        for number, line in enumerate(_lines(self._path), 1):
            record = parse(line.removesuffix(b"\n"))
            if record is None and not line.endswith(b"\n"):
                self.unfinished = len(line)
            elif record is None:
                return Break(number, "edited", "its content does not have the hash that it names")
            elif broken := self._broken(number, record):
                return broken
            else:
                self.lines, self.due, self.previous = number, record.sequence + 1, record.hash
                self.torn += record.torn > 0
                self.seen = self.seen or record.hash == head
        return None

    def _broken(self, number: int, record: Record) -> Break | None:
        """What is wrong with a record's place, after records that are right."""
        if record.sequence < self.due:
            return Break(number, "reordered", f"it is record {record.sequence}, where record {self.due} belongs")
        if record.sequence > self.due:
            if any(later.sequence == self.due for later in _records(self._path, after=number)):
                return Break(number, "reordered", f"it is record {record.sequence}; record {self.due} comes later")
            missing = f"record {self.due}" + (f" to {record.sequence - 1}" if record.sequence - self.due > 1 else "")
            return Break(number, "removed", f"{missing} stood before it")
        if record.previous != self.previous:
            if number == 1:
                return Break(1, "removed", "it is no first record: it follows another")
            return Break(number - 1, "edited", f"its hash was made anew; line {number} holds the one that it had")
        return None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise StorageError(f"the audit trail {path} cannot be read: {error.strerror}") from error


def _records(path: Path, after: int) -> Iterator[Record]:
    for number, line in enumerate(_lines(path), 1):
        record = parse(line.removesuffix(b"\n")) if number > after else None
        if record:
            yield record
