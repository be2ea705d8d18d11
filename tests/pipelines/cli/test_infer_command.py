"""`loraline infer`: policies, refusals and the audit trail."""

import json
from pathlib import Path

import pytest

from loraline import storage
from loraline.safety.policy_files import load_policy, write_policy
from tests import tiny
from tests.pipelines.cli.conftest import loraline

TRAIL = Path(".loraline/audit.jsonl")


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_models_own_policy_answers_and_records(medical_model: Path) -> None:
    refused = loraline("infer", "How much ibuprofen should I take?", "--model", medical_model)
    assert (refused.exit_code, refused.stdout[:28]) == (0, "I can't tell you what to tak")
    assert refused.stderr.endswith("policy  the model was not asked: dosing-request\n")
    passed = loraline("infer", "What is ibuprofen?", "--model", medical_model, "--max-new-tokens", 5)
    assert passed.exit_code == 0
    assert "I can't" not in passed.stdout
    assert "policy" not in passed.stderr
    first, *_ = records = [json.loads(line) for line in TRAIL.read_text().splitlines()]
    assert [one["event"] for one in records] == ["prompt", "prompt", "answer"]
    assert first["model"]["source"] == str(medical_model)
    assert len(first["model"]["digest"]) == 64
    assert "ibuprofen" not in TRAIL.read_text()


def test_another_policy_or_none(medical_model: Path, tmp_path: Path) -> None:
    plain = loraline(
        "infer", "Do I have diabetes?", "--model", medical_model, "--policy", "none", "--max-new-tokens", 5
    )
    assert plain.exit_code == 0
    assert "I can't" not in plain.stdout
    assert not TRAIL.exists()
    mine = load_policy("medical").model_copy(update={"categories": [], "boundaries": [], "system_prompt": ""})
    write_policy(mine, tmp_path)
    own = loraline(
        "infer", "Do I have diabetes?", "--model", medical_model, "--policy", tmp_path / "policy.yaml",
        "--max-new-tokens", 5, "--audit", "mine.jsonl",
    )  # fmt: skip
    assert (own.exit_code, own.stdout) == (0, plain.stdout)
    assert mine.digest in Path("mine.jsonl").read_text()
    unknown = loraline("infer", "hello", "--model", medical_model, "--policy", "medicl")
    assert unknown.exit_code == 2
    assert "Did you mean 'medical'?" in unknown.stderr


def test_a_broken_policy_of_a_model_is_no_policy_to_go_without(medical_model: Path, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    (folder / "policy.yaml").write_text("name: x\n")
    broken = loraline("infer", "hello", "--model", folder)
    assert broken.exit_code == 2
    assert "`--policy none` to go without" in broken.stderr
    assert loraline("infer", "hello", "--model", folder, "--policy", "none", "--max-new-tokens", 2).exit_code == 0


def test_the_policy_comes_from_the_store_with_the_model(medical_model: Path, s3: dict[str, str]) -> None:
    storage.upload(medical_model, "s3://models/tiny")
    refused = loraline("infer", "Do I have diabetes?", "--model", "s3://models/tiny")
    assert (refused.exit_code, refused.stdout[:29]) == (0, "I can't tell you what you hav")
