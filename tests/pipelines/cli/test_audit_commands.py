"""`loraline audit verify`."""

import re
from pathlib import Path

import pytest

from tests.pipelines.cli.conftest import loraline

TRAIL = Path(".loraline/audit.jsonl")


def test_verify_finds_incomplete_truncated_and_edited_records(
    medical_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        loraline("infer", "Do I have diabetes?", "--model", medical_model)
    whole = loraline("audit", "verify")
    assert (whole.exit_code, whole.stdout.splitlines()[0]) == (0, f"intact  {TRAIL}: 3 records")
    (head,) = re.findall(r"head +([0-9a-f]{64})", whole.stdout)
    rows = TRAIL.read_bytes().splitlines(keepends=True)
    TRAIL.write_bytes(b"".join([*rows, b'{"sequence":3,']))
    torn = loraline("audit", "verify", TRAIL, "--head", head)
    assert torn.exit_code == 0
    assert "the last 14 bytes are an incomplete record" in torn.stdout
    TRAIL.write_bytes(b"".join(rows[:2]))
    assert loraline("audit", "verify").exit_code == 0
    short = loraline("audit", "verify", TRAIL, "--head", head)
    assert short.exit_code == 1
    assert short.stdout.startswith(f"truncated  {TRAIL}, line 3: it ends after record 1")
    TRAIL.write_bytes(rows[0] + rows[1].replace(b"diagnosis", b"dyagnosis") + rows[2])
    edited = loraline("audit", "verify")
    assert edited.exit_code == 1
    assert f"edited  {TRAIL}, line 2: its content does not match its hash" in edited.stdout
    assert loraline("audit", "verify", "nothing.jsonl").exit_code == 2
