"""The audit trail: who was answered what, in a file that only grows and whose every change shows.

One JSON object a line. Each holds its number, the hash of the record before it (`previous`) and its own (`hash`):
SHA-256 over the line's bytes without the hash itself. So an edited, removed or exchanged line breaks the chain.
What a chain alone cannot show is that its end was cut off, or that all of it was written anew. For that the head,
the last record's hash, is noted elsewhere (a log of other people's, a mail, paper) and given to `verify`.

Prompts and answers stand in it as digests. A plain hash of a short text is as good as the text, because all short
texts can be tried. So these are HMAC-SHA256 (RFC 2104) under a key that lies in a file of its own: who holds trail
and key can show that a certain text was asked, who holds the trail alone learns nothing, and once the key is
destroyed nobody does.

A record is written whole, under a lock, and is on disk before `append` returns. A machine that stops in the middle
leaves a last line without its end. The next record is written behind that torn piece and vouches for its bytes, so
that `verify` can tell it from a line that somebody changed.
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

START = "0" * 64
"""What the first record has for `previous`, and the head of an empty trail."""
KEY_VARIABLE = "LORALINE_AUDIT_KEY"

_HASH = re.compile(rb',"hash":"([0-9a-f]{64})"}\Z')
_BEGINNING = b'{"sequence":'
_BLOCK = 1 << 16
_SHORTEST_KEY = 16  # bytes


@dataclass(frozen=True)
class Record:
    """A line of the trail that is what was written."""

    sequence: int
    previous: str
    hash: str
    fields: dict[str, Any]
    """All that the line says."""
    torn: int
    """Bytes of a torn record before it, on the same line."""


class AuditTrail:
    """A trail to write to. Any number of processes may write to the same file."""

    def __init__(self, path: Path) -> None:
        """Open a trail; it and its key are made where they do not exist.

        Raises:
            ConfigurationError: $LORALINE_AUDIT_KEY is too short to be a key.
            StorageError: the folder cannot be written to.
        """
        self.path = path
        with _told(f"the audit trail {path} cannot be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._key = _key(path.with_name(path.name + ".key"))

    @property
    def key_id(self) -> str:
        """Names the key without telling it: 16 hexadecimal digits."""
        return hashlib.sha256(b"loraline audit key" + self._key).hexdigest()[:16]

    def digest(self, text: str) -> str:
        """HMAC-SHA256 of a text under the trail's key."""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def append(self, event: str, **fields: Any) -> str:
        """Write a record; when this returns, it is on disk. Gives the new head.

        Raises:
            StorageError: the file cannot be written.
            ValidationError: its last line is not what was written, so that nothing may be put after it.
        """
        with _told(f"the audit trail {self.path} cannot be written"), _locked(self.path) as file:
            before, torn = self._end(file)
            lines = b""
            if torn and (whole := parse(torn)):  # all but the end of the line was written
                before, torn, lines = whole, b"", b"\n"
            sequence, previous = (before.sequence + 1, before.hash) if before else (0, START)
            if torn:
                line, previous = _line(sequence, "recovered", previous, {"torn": len(torn), "sha256": _sha256(torn)})
                lines, sequence = line, sequence + 1
            line, head = _line(sequence, event, previous, fields)
            _write(file, lines + line)
            if before is None:
                _sync_folder(self.path.parent)
        return head

    def _end(self, file: int) -> tuple[Record | None, bytes]:
        """The last record, and the bytes after the last line's end."""
        size = os.fstat(file).st_size
        at, found = size, b""
        while at and found.count(b"\n", 0, -1) < 2:
            step = min(_BLOCK, at)
            at -= step
            found = os.pread(file, step, at) + found
        *lines, torn = found.split(b"\n")
        if not lines:
            return None, torn
        last = parse(lines[-1])
        if last is None:
            raise ValidationError(
                f"the last line of the audit trail {self.path} is not what was written: look at it with "
                "`loraline audit verify`, and keep the file; a new trail begins where it is moved away"
            )
        return last, torn


def parse(line: bytes) -> Record | None:
    """A line without its end, as a record; none where it is not what was written."""
    whole = _parse_whole(line, 0)
    if whole:
        return whole
    at = line.rfind(_BEGINNING)
    found = _parse_whole(line[at:], at) if at > 0 else None
    if found and found.fields["event"] == "recovered":
        vouched = {"torn": at, "sha256": _sha256(line[:at])}
        return found if vouched.items() <= found.fields.items() else None
    return None


def _parse_whole(line: bytes, torn: int) -> Record | None:
    ending = _HASH.search(line)
    if not ending or not line.startswith(_BEGINNING) or _sha256(line[: ending.start()] + b"}") != ending[1].decode():
        return None
    try:
        fields = json.loads(line)
        return Record(int(fields["sequence"]), str(fields["previous"]), fields["hash"], fields, torn)
    except (ValueError, KeyError):  # a hash over what never was a record
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
    """Put a new file's name on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """A trail's file, held alone; not one that was moved away while waiting for it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not (path.exists() and os.path.samestat(os.fstat(file), path.stat())):
                continue
            yield file
            return
        finally:
            os.close(file)  # which ends the lock


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{what}: {error}") from error


def _key(file: Path) -> bytes:
    """The key for digests: from the environment, else from its file, which is made where it does not exist."""
    if given := os.environ.get(KEY_VARIABLE):
        if len(given.encode()) < _SHORTEST_KEY:
            raise ConfigurationError(f"{KEY_VARIABLE} has {len(given.encode())} bytes; give {_SHORTEST_KEY} or more")
        return given.encode()
    if not file.exists():
        handle, made = tempfile.mkstemp(dir=file.parent)  # for the owner alone
        try:
            with os.fdopen(handle, "w", encoding="ascii") as target:
                target.write(secrets.token_hex(32))
            os.link(made, file)  # whole or not at all; who comes second takes the first one's
        except FileExistsError:
            pass
        finally:
            Path(made).unlink()
    return file.read_bytes()
