"""Verify the hash chain of an audit trail."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loraline.errors import ConfigurationError, StorageError
from loraline.serving.audit import GENESIS, AuditRecord, parse_record

_HEAD = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ChainBreak:
    """The first place where a trail was altered."""

    line: int
    """Counted from 1."""
    kind: Literal["edited", "removed", "reordered", "truncated"]
    detail: str


@dataclass(frozen=True)
class AuditVerification:
    """The result of verifying a trail."""

    records: int
    """Number of valid records before the break, or in all."""
    head: str
    """Hash of the last of them."""
    torn: int
    """Records that a crash cut off during the write, and that a later `recovered` record accounts for."""
    incomplete: int
    """Length in bytes of a torn last line, which no later record accounts for yet."""
    chain_break: ChainBreak | None
    """None for a valid chain."""


def verify(path: Path, head: str = "") -> AuditVerification:
    """Verify a trail's hash chain from the first record to the last.

    Args:
        path: the trail.
        head: an earlier head of the trail. A trail without that record was truncated since, or replaced.

    Raises:
        ConfigurationError: the head is not a hash.
        StorageError: the file cannot be read.
    """
    if head and not _HEAD.fullmatch(head):
        raise ConfigurationError(f"the head is {head!r}; give the 64 hexadecimal digits that `audit verify` printed")
    chain = _Chain(path)
    chain_break = chain.follow(head)
    if chain_break is None and head not in ("", GENESIS) and not chain.contains_head:
        chain_break = ChainBreak(
            chain.lines + 1, "truncated", f"it ends after record {chain.next_sequence - 1} and does not contain {head}"
        )
    return AuditVerification(chain.next_sequence, chain.previous, chain.torn, chain.incomplete, chain_break)


class _Chain:
    """The state of the verification after each line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines = 0
        self.next_sequence = 0
        self.previous = GENESIS
        self.torn = 0
        self.incomplete = 0
        self.contains_head = False

    def follow(self, head: str) -> ChainBreak | None:
        """Read to the end, or to the first break."""
        for number, line in enumerate(_lines(self._path), 1):
            record = parse_record(line.removesuffix(b"\n"))
            if record is None and not line.endswith(b"\n"):
                self.incomplete = len(line)
            elif record is None:
                return ChainBreak(number, "edited", "its content does not match its hash")
            elif chain_break := self._check_link(number, record):
                return chain_break
            else:
                self.lines, self.next_sequence, self.previous = number, record.sequence + 1, record.hash
                self.torn += record.torn > 0
                self.contains_head = self.contains_head or record.hash == head
        return None

    def _check_link(self, number: int, record: AuditRecord) -> ChainBreak | None:
        """Check a valid record's place in the chain, after valid records."""
        expected = self.next_sequence
        if record.sequence < expected:
            return ChainBreak(number, "reordered", f"it is record {record.sequence}; record {expected} was expected")
        if record.sequence > expected:
            if any(later.sequence == expected for later in _records(self._path, after=number)):
                return ChainBreak(number, "reordered", f"it is record {record.sequence}; record {expected} comes later")
            missing = f"record {expected}" + (f" to {record.sequence - 1}" if record.sequence - expected > 1 else "")
            return ChainBreak(number, "removed", f"{missing} is missing before it")
        if record.previous != self.previous:
            if number == 1:
                return ChainBreak(1, "removed", "it is not a first record: it refers to an earlier one")
            return ChainBreak(
                number - 1, "edited", f"its hash was recomputed; line {number} refers to the original one"
            )
        return None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise StorageError(f"the audit trail {path} cannot be read: {error.strerror}") from error


def _records(path: Path, after: int) -> Iterator[AuditRecord]:
    for number, line in enumerate(_lines(path), 1):
        record = parse_record(line.removesuffix(b"\n")) if number > after else None
        if record:
            yield record
