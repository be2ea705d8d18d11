"""`loraline infer` and `loraline audit verify`, as a person types them."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from loraline import storage
from loraline.artifacts.base_model import ModelManifest
from loraline.models.folder import write_manifest
from loraline.safety import load_policy, write_policy
from pipelines.cli.app import app
from tests import tiny

TRAIL = Path(".loraline/audit.jsonl")


def loraline(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with the medical policy; its context holds the policy's system prompt, a token a byte."""
    folder = tiny.save_model(tmp_path_factory.mktemp("model"), tiny.llama(max_position_embeddings=2048))
    write_manifest(folder, ModelManifest(compute_dtype="float32", device="cpu"))
    write_policy(load_policy("medical"), folder)
    return folder


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_models_own_policy_answers_and_records(model: Path) -> None:
    refused = loraline("infer", "How much ibuprofen should I take?", "--model", model)
    assert (refused.exit_code, refused.stdout[:28]) == (0, "I can't tell you what to tak")
    assert refused.stderr.endswith("policy  the model was not asked: dosing-request\n")
    passed = loraline("infer", "What is ibuprofen?", "--model", model, "--max-new-tokens", 5)
    assert passed.exit_code == 0
    assert "I can't" not in passed.stdout
    assert "policy" not in passed.stderr
    first, *_ = records = [json.loads(line) for line in TRAIL.read_text().splitlines()]
    assert [one["event"] for one in records] == ["prompt", "prompt", "answer"]
    assert first["model"]["source"] == str(model)
    assert len(first["model"]["digest"]) == 64
    assert "ibuprofen" not in TRAIL.read_text()


def test_another_policy_or_none(model: Path, tmp_path: Path) -> None:
    plain = loraline("infer", "Do I have diabetes?", "--model", model, "--policy", "none", "--max-new-tokens", 5)
    assert plain.exit_code == 0
    assert "I can't" not in plain.stdout
    assert not TRAIL.exists()
    mine = load_policy("medical").model_copy(update={"categories": [], "boundaries": [], "system_prompt": ""})
    write_policy(mine, tmp_path)
    own = loraline(
        "infer", "Do I have diabetes?", "--model", model, "--policy", tmp_path / "policy.yaml",
        "--max-new-tokens", 5, "--audit", "mine.jsonl",
    )  # fmt: skip
    assert (own.exit_code, own.stdout) == (0, plain.stdout)
    assert mine.digest in Path("mine.jsonl").read_text()
    unknown = loraline("infer", "hello", "--model", model, "--policy", "medicl")
    assert unknown.exit_code == 2
    assert "Did you mean 'medical'?" in unknown.stderr


def test_a_broken_policy_of_a_model_is_no_policy_to_go_without(model: Path, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    (folder / "policy.yaml").write_text("name: x\n")
    told = loraline("infer", "hello", "--model", folder)
    assert told.exit_code == 2
    assert "`--policy none` to go without" in told.stderr
    assert loraline("infer", "hello", "--model", folder, "--policy", "none", "--max-new-tokens", 2).exit_code == 0


def test_the_policy_comes_from_the_store_with_the_model(model: Path, s3: dict[str, str]) -> None:
    storage.upload(model, "s3://models/tiny")
    refused = loraline("infer", "Do I have diabetes?", "--model", "s3://models/tiny")
    assert (refused.exit_code, refused.stdout[:29]) == (0, "I can't tell you what you hav")


def test_verify_says_what_is_whole_and_what_is_not(model: Path) -> None:
    for _ in range(3):
        loraline("infer", "Do I have diabetes?", "--model", model)
    whole = loraline("audit", "verify")
    assert (whole.exit_code, whole.stdout.splitlines()[0]) == (0, f"whole  {TRAIL}: 3 records")
    (head,) = re.findall(r"head +([0-9a-f]{64})", whole.stdout)
    rows = TRAIL.read_bytes().splitlines(keepends=True)
    TRAIL.write_bytes(b"".join([*rows, b'{"sequence":3,']))
    torn = loraline("audit", "verify", TRAIL, "--head", head)
    assert torn.exit_code == 0
    assert "the last 14 bytes are a record that was cut off" in torn.stdout
    TRAIL.write_bytes(b"".join(rows[:2]))
    assert loraline("audit", "verify").exit_code == 0
    short = loraline("audit", "verify", TRAIL, "--head", head)
    assert short.exit_code == 1
    assert short.stdout.startswith(f"truncated  {TRAIL}, line 3: after record 1 it ends")
    TRAIL.write_bytes(rows[0] + rows[1].replace(b"diagnosis", b"dyagnosis") + rows[2])
    edited = loraline("audit", "verify")
    assert edited.exit_code == 1
    assert f"edited  {TRAIL}, line 2: its content does not have the hash" in edited.stdout
    assert loraline("audit", "verify", "nothing.jsonl").exit_code == 2
