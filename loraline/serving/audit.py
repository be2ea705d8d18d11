"""The audit trail: an append-only, tamper-evident log of prompts, answers and policy decisions.

JSON Lines with a hash chain: each record holds its sequence number, the hash of the record before it (`previous`) and
its own (`hash`), SHA-256 over the line's bytes without the hash itself. An edited, removed or reordered line breaks
the chain. A chain cannot show that its end was truncated, or that all of it was rewritten: to detect that, store the
head (the hash of the last record) elsewhere and give it to `verify`.

Prompts and answers are recorded as digests. A plain hash of a short text can be reversed by trying all short texts, so
these are HMAC-SHA256 (RFC 2104) with a key in a separate file. With trail and key one can prove that a certain text was
asked; the trail alone reveals nothing, and nor do both once the key is destroyed.

A record is written under a lock and synced to disk before `append` returns. A crash during the write leaves a torn
(incomplete) last line. The next writer appends a `recovered` record to it, on the same line, that holds the length and
hash of the torn bytes, so that `verify` can tell them from a line that was edited.
"""

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loraline.errors import ConfigurationError, StorageError, ValidationError

GENESIS = "0" * 64
"""`previous` of the first record, and the head of an empty trail."""
KEY_VARIABLE = "LORALINE_AUDIT_KEY"

_HASH = re.compile(rb',"hash":"([0-9a-f]{64})"}\Z')
_RECORD_PREFIX = b'{"sequence":'
_BLOCK = 1 << 16
_MIN_KEY_LENGTH = 16  # bytes


@dataclass(frozen=True)
class AuditRecord:
    """A record whose hash is valid."""

    sequence: int
    previous: str
    hash: str
    fields: dict[str, Any]
    """All fields of the line."""
    torn: int
    """Length in bytes of a torn record before it on the same line."""


class AuditTrail:
    """Writes to an audit trail. Any number of processes may write to the same file."""

    def __init__(self, path: Path) -> None:
        """Open a trail; create the key if it does not exist.

        Raises:
            ConfigurationError: $LORALINE_AUDIT_KEY is too short.
            StorageError: the folder cannot be written to.
        """
        self.path = path
        with _as_storage_error(f"the audit trail {path} cannot be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._key = _key(path.with_name(path.name + ".key"))

    @property
    def key_id(self) -> str:
        """Identifies the key without revealing it: 16 hexadecimal digits."""
        return hashlib.sha256(b"loraline audit key" + self._key).hexdigest()[:16]

    def digest(self, text: str) -> str:
        """HMAC-SHA256 of a text with the trail's key."""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def append(self, event: str, **fields: Any) -> str:
        """Append a record, sync it to disk and return the new head.

        Raises:
            StorageError: the file cannot be written.
            ValidationError: the last record was altered.
        """
        with _as_storage_error(f"the audit trail {self.path} cannot be written"), _locked(self.path) as file:
            before, torn = self._last_record(file)
            lines = b""
            if torn and (complete := parse_record(torn)):  # only the newline is missing
                before, torn, lines = complete, b"", b"\n"
            sequence, previous = (before.sequence + 1, before.hash) if before else (0, GENESIS)
            if torn:
                line, previous = _line(sequence, "recovered", previous, {"torn": len(torn), "sha256": _sha256(torn)})
                lines, sequence = line, sequence + 1
            line, head = _line(sequence, event, previous, fields)
            _write(file, lines + line)
            if before is None:
                _sync_folder(self.path.parent)
        return head

    def _last_record(self, file: int) -> tuple[AuditRecord | None, bytes]:
        """The last record, and the bytes after the last newline."""
        size = os.fstat(file).st_size
        offset, tail = size, b""
        while offset and tail.count(b"\n", 0, -1) < 2:
            step = min(_BLOCK, offset)
            offset -= step
            tail = os.pread(file, step, offset) + tail
        *lines, torn = tail.split(b"\n")
        if not lines:
            return None, torn
        last = parse_record(lines[-1])
        if last is None:
            raise ValidationError(
                f"the last record of the audit trail {self.path} was altered: run `loraline audit verify`, and keep "
                "the file; after it is moved away a new trail begins"
            )
        return last, torn


def parse_record(line: bytes) -> AuditRecord | None:
    """Parse a line without its newline, which may begin with torn bytes; None if the hash does not match."""
    record = _parse_untorn(line, 0)
    if record:
        return record
    start = line.rfind(_RECORD_PREFIX)
    recovered = _parse_untorn(line[start:], start) if start > 0 else None
    if recovered and recovered.fields["event"] == "recovered":
        expected = {"torn": start, "sha256": _sha256(line[:start])}
        return recovered if expected.items() <= recovered.fields.items() else None
    return None


def _parse_untorn(line: bytes, torn: int) -> AuditRecord | None:
    ending = _HASH.search(line)
    if (
        not ending
        or not line.startswith(_RECORD_PREFIX)
        or _sha256(line[: ending.start()] + b"}") != ending[1].decode()
    ):
        return None
    try:
        fields = json.loads(line)
        return AuditRecord(int(fields["sequence"]), str(fields["previous"]), fields["hash"], fields, torn)
    except (ValueError, KeyError):  # a valid hash, but not of a record
        return None


def _line(sequence: int, event: str, previous: str, fields: dict[str, Any]) -> tuple[bytes, str]:
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {"sequence": sequence, "time": time, "event": event, **fields, "previous": previous}
    body = json.dumps(record, separators=(",", ":")).encode()
    digest = _sha256(body)
    return body[:-1] + f',"hash":"{digest}"}}\n'.encode(), digest


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
    os.fsync(file)


def _sync_folder(folder: Path) -> None:
    """Sync a new file's directory entry to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open and lock a trail's file; open it again if it was moved away while waiting for the lock."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not (path.exists() and os.path.samestat(os.fstat(file), path.stat())):
                continue
            yield file
            return
        finally:
            os.close(file)  # releases the lock


@contextmanager
def _as_storage_error(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{what}: {error}") from error


def _key(file: Path) -> bytes:
    """The HMAC key: from the environment, else from its file, which is created if it does not exist."""
    if given := os.environ.get(KEY_VARIABLE):
        if len(given.encode()) < _MIN_KEY_LENGTH:
            raise ConfigurationError(f"{KEY_VARIABLE} has {len(given.encode())} bytes; give {_MIN_KEY_LENGTH} or more")
        return given.encode()
    if not file.exists():
        handle, temporary = tempfile.mkstemp(dir=file.parent)  # readable by the owner only
        try:
            with os.fdopen(handle, "w", encoding="ascii") as target:
                target.write(secrets.token_hex(32))
            os.link(temporary, file)  # atomic; of two processes the second uses the key of the first
        except FileExistsError:
            pass
        finally:
            Path(temporary).unlink()
    return file.read_bytes()
