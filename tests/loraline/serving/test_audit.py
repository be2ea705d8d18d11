"""The audit trail: every alteration is detected."""

import json
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loraline.errors import ConfigurationError, StorageError, ValidationError
from loraline.serving.audit import GENESIS, KEY_VARIABLE, AuditTrail
from loraline.serving.audit_verification import verify

WRITER = """
import sys
from pathlib import Path
from loraline.serving.audit import AuditTrail
trail = AuditTrail(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    print(trail.append("prompt", writer=sys.argv[3], number=number, padding="x" * 2000), flush=True)
"""


@pytest.fixture
def trail(tmp_path: Path) -> AuditTrail:
    made = AuditTrail(tmp_path / "audit.jsonl")
    for number in range(6):
        made.append("prompt", number=number, text="caf\u00e9\n")
    return made


def lines(trail: AuditTrail) -> list[bytes]:
    return trail.path.read_bytes().splitlines(keepends=True)


def broken(trail: AuditTrail, head: str = "") -> tuple[str, int] | None:
    found = verify(trail.path, head).chain_break
    return found and (found.kind, found.line)


def test_records_are_chained(trail: AuditTrail) -> None:
    records = [json.loads(line) for line in lines(trail)]
    assert [record["sequence"] for record in records] == list(range(6))
    assert [record["previous"] for record in records] == [GENESIS, *(record["hash"] for record in records[:-1])]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", records[0]["time"])
    found = verify(trail.path, records[2]["hash"])
    assert (found.records, found.head, found.torn, found.incomplete) == (6, records[-1]["hash"], 0, 0)
    assert found.chain_break is None
    assert trail.append("prompt") == verify(trail.path).head
    assert trail.path.stat().st_mode & 0o777 == 0o600


def forged(lines: list[bytes], at: int) -> list[bytes]:
    """A line with another content and a hash that fits."""
    from loraline.serving.audit import _line

    record = json.loads(lines[at])
    lines[at], _ = _line(at, "prompt", record["previous"], {"number": 99})
    return lines


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda rows: [*rows[:2], rows[2].replace(b'"number":2', b'"number":9'), *rows[3:]], ("edited", 3)),
        (lambda rows: [*rows[:2], b"{}\n", *rows[3:]], ("edited", 3)),
        (lambda rows: [*rows[:2], b"\n", *rows[2:]], ("edited", 3)),
        (lambda rows: [*rows[:2], rows[2][:100] + b"\n", *rows[3:]], ("edited", 3)),
        (lambda rows: forged(rows, 2), ("edited", 3)),
        (lambda rows: [*rows[:2], *rows[3:]], ("removed", 3)),
        (lambda rows: [*rows[:1], *rows[4:]], ("removed", 2)),
        (lambda rows: rows[1:], ("removed", 1)),
        (lambda rows: [*rows[:2], rows[3], rows[2], *rows[4:]], ("reordered", 3)),
        (lambda rows: [*rows, rows[3]], ("reordered", 7)),
        (lambda rows: rows[:4], None),
    ],
)
def test_the_first_altered_line_is_named(
    change: Callable[[list[bytes]], list[bytes]], found: tuple[str, int] | None, trail: AuditTrail
) -> None:
    head = verify(trail.path).head
    trail.path.write_bytes(b"".join(change(lines(trail))))
    assert broken(trail) == found
    assert broken(trail, head) == (found or ("truncated", 5))


def test_a_rewritten_trail_does_not_contain_an_earlier_head(trail: AuditTrail, tmp_path: Path) -> None:
    head = verify(trail.path).head
    trail.path.unlink()
    trail.append("prompt", number=0)
    assert broken(trail) is None
    assert broken(trail, head) == ("truncated", 2)
    with pytest.raises(ConfigurationError, match="the head is '12'"):
        verify(trail.path, "12")
    with pytest.raises(StorageError, match="cannot be read: No such file"):
        verify(tmp_path / "none.jsonl")


def test_an_empty_trail_is_valid(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert verify(tmp_path / "a").chain_break is None
    assert verify(tmp_path / "a").head == GENESIS
    assert verify(tmp_path / "a", GENESIS).chain_break is None


def test_nothing_is_appended_after_an_altered_line(trail: AuditTrail) -> None:
    rows = lines(trail)
    trail.path.write_bytes(b"".join(rows[:-1]) + rows[-1].replace(b'"number":5', b'"number":6'))
    with pytest.raises(ValidationError, match="was altered"):
        trail.append("prompt")


@pytest.mark.parametrize("cut", [1, 100, 200, 0])
def test_a_torn_line_is_recovered_and_not_taken_for_an_edited_one(cut: int, trail: AuditTrail) -> None:
    whole, last = b"".join(lines(trail)[:-1]), lines(trail)[-1]
    trail.path.write_bytes(whole + last[: cut or -1])  # 0: all but the line's end
    found = verify(trail.path)
    assert (found.records, found.incomplete, found.chain_break) == ((5, cut, None) if cut else (6, 0, None))
    trail.append("prompt", number=7)
    trail.append("prompt", number=8)
    found = verify(trail.path)
    assert (found.records, found.torn, found.incomplete, found.chain_break) == (8, int(cut > 0), 0, None)
    if cut:
        changed = trail.path.read_bytes().replace(whole + last[:cut], whole + b"x" * cut)
        trail.path.write_bytes(changed)
        assert broken(trail) == ("edited", 6)


def test_a_recovery_that_is_itself_torn(trail: AuditTrail) -> None:
    whole = trail.path.read_bytes()
    trail.path.write_bytes(whole + b'{"sequence":6,"ti')
    trail.append("prompt")
    recovered = trail.path.read_bytes()
    trail.path.write_bytes(recovered[: len(whole) + 150])
    trail.append("prompt")
    assert (verify(trail.path).records, verify(trail.path).chain_break) == (8, None)


def start(path: Path, count: int, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(count), name], stdout=subprocess.PIPE, text=True
    )


def test_a_full_disk_tears_a_record_and_raises(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, {resource.RLIM_INFINITY}))\n"
    done = subprocess.run(
        [sys.executable, "-c", limit + WRITER, str(path), "9", "a"], capture_output=True, text=True, check=False
    )
    assert "StorageError" in done.stderr
    assert path.stat().st_size == 5000
    found = verify(path)
    assert found.records == len(done.stdout.splitlines()) == 2
    assert found.incomplete > 0
    AuditTrail(path).append("prompt")
    assert (verify(path).torn, verify(path).chain_break) == (1, None)


def test_concurrent_writers_lose_no_record_when_one_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    writers = [start(path, 40, "a"), start(path, 40, "b"), start(path, 100_000, "c")]
    acknowledged = [writer.communicate()[0].split() for writer in writers[:2]]
    while path.read_bytes().count(b'"writer":"c"') < 5:
        time.sleep(0.01)
    writers[2].send_signal(signal.SIGKILL)
    acknowledged.append([head for head in writers[2].communicate()[0].split() if len(head) == 64])
    AuditTrail(path).append("prompt")
    found = verify(path)
    assert found.chain_break is None
    text = path.read_text()
    assert [len(one) for one in acknowledged[:2]] == [40, 40]
    assert all(f'"hash":"{head}"' in text for one in acknowledged for head in one)


def test_digests_are_keyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, same = AuditTrail(tmp_path / "a.jsonl"), AuditTrail(tmp_path / "a.jsonl")
    other = AuditTrail(tmp_path / "b.jsonl")
    assert one.digest("yes") == same.digest("yes") != other.digest("yes")
    assert one.key_id == same.key_id != other.key_id
    key = tmp_path / "a.jsonl.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("tmp*"))
    monkeypatch.setenv(KEY_VARIABLE, "a secret of the whole company")
    assert AuditTrail(tmp_path / "a.jsonl").digest("yes") == AuditTrail(tmp_path / "b.jsonl").digest("yes")
    monkeypatch.setenv(KEY_VARIABLE, "short")
    with pytest.raises(ConfigurationError, match="has 5 bytes; give 16 or more"):
        AuditTrail(tmp_path / "a.jsonl")


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"the audit trail .* cannot be written"):
        AuditTrail(tmp_path / "file" / "audit.jsonl")
