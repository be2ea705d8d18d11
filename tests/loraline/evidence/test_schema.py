"""Evidence of another version is refused, with what to do."""

import json
from pathlib import Path

import pytest

from loraline.artifacts.verdict import EVIDENCE
from loraline.errors import ValidationError
from loraline.evidence.schema import VERSION, Evidence
from tests.loraline.gate.gate_runs import decide
from tests.loraline.run_outputs import write_outputs


@pytest.mark.parametrize("version", [1, 2, VERSION + 1])
def test_evidence_of_another_version_is_refused(tmp_path: Path, version: int) -> None:
    decide(write_outputs(tmp_path))
    path = tmp_path / "evidence" / EVIDENCE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version}))
    expected = f"evidence of version {version}; this release reads version {VERSION}. Run the pipeline again, or use"
    with pytest.raises(ValidationError, match=expected):
        Evidence.load(path.parent)


def test_evidence_of_an_older_shape_says_its_version_and_not_its_fields(tmp_path: Path) -> None:
    (tmp_path / EVIDENCE).write_text('{"version": 1, "verdict": {"verdict": "promote"}, "lineage": {}}')
    with pytest.raises(ValidationError, match=r"evidence\.json cannot be read as Evidence: evidence of version 1"):
        Evidence.load(tmp_path)


def test_no_evidence_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"there is no evidence\.json in "):
        Evidence.load(tmp_path)
