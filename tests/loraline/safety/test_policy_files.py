"""Policy files: all errors are listed at once, and a written policy reads back equal."""

import subprocess
import sys
from pathlib import Path

import pytest

from loraline import storage
from loraline.errors import ConfigurationError
from loraline.safety.config import SafetyConfig
from loraline.safety.policy import Policy
from loraline.safety.policy_files import load_policy, read_policy, shipped_policies, write_policy
from tests.loraline.safety.conftest import SMALL, Load

BROKEN = """\
name: Tea Shop
version: 1
description: x
system_prompt: "{boundaries}"
categories:
  - name: coffee
    patterns:
      - 'coffee('
      - ''
      - "\\bbean"
      - (?: \\w+)
    actions: {rows: remove, prompt: refuse}
  - description: no name
    actions: {rows: drop}
    pattern: [x]
thresholds: {max_leak_rate: 2}
refusal: {text: I can't., patterns: [I can't]}
"""


def problems_of(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_policy(str(file))
    return str(caught.value)


def test_every_invalid_value_is_listed_with_its_line(tmp_path: Path) -> None:
    lines = problems_of(tmp_path / "p.yaml", BROKEN).splitlines()
    assert lines[0].endswith("p.yaml has 11 invalid values:")
    for expected in (
        "  line 1: name = 'Tea Shop': String should match",
        "  line 2: version = 1: should be a valid string",
        "  line 6: categories.0.description is missing",
        "  line 8: categories.0.patterns.0 = 'coffee(': is not a regular expression: missing ), unterminated "
        "subpattern at position 6",
        "  line 9: categories.0.patterns.1 = '': matches the empty text",
        "  line 10: categories.0.patterns.2 = '\\x08bean': contains a backspace",
        "  line 11: categories.0.patterns.3 = {'(?': '\\\\w+)'}: should be a valid string (YAML reads",
        "  line 12: categories.0.actions.rows = 'remove': should be 'drop' or 'report'",
        "  line 13: categories.1.name is missing",
        "  line 15: categories.1.pattern = ['x']: there is no such setting",
        "  line 16: thresholds.max_leak_rate = 2: should be less than or equal to 1",
    ):
        assert any(line.startswith(expected) for line in lines), (expected, lines)


def test_all_inconsistencies_are_listed_at_once(load: Load) -> None:
    category = {**SMALL["categories"][1], "boundary": "advise"}
    with pytest.raises(ConfigurationError) as caught:
        load(
            system_prompt="You sell tea.",
            emergency="",
            categories=[
                category,
                SMALL["categories"][2],
                {"name": "none", "description": "x", "actions": {}},
                {**SMALL["categories"][0], "name": "none", "exempt": ["x"]},
            ],
            classifier={"model": "m", "labels": {"toxic": {"category": "tea", "threshold": 0.5}}},
            boundaries=[{**SMALL["boundaries"][0], "referral": "Ask a doctor."}],
            probes=SMALL["probes"][:1],
        )
    message = str(caught.value)
    for expected in (
        "category 'none' is defined 2 times",
        "category 'health' names boundary 'advise'; the policy has: advice",
        "category 'none' can never match",
        "category 'none' has exempt patterns",
        "category 'none' has no action",
        "label 'toxic' names category 'tea'; the policy has: fire, health, none",
        "category 'health' has no response text: name a boundary",
        "category 'fire' has no response text: write the policy's emergency text",
        "boundary 'advice' is not in the system prompt",
        "boundary 'advice''s referral is not recognised as a refusal",
        "there is no probe of kind benign, leak",
    ):
        assert expected in message, expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "is not YAML"),
        ("", "contains None"),
        ("name: a\nversion: x\nname: b\n", "line 3: 'name' is already on line 1"),
        ("categories:\n  - {name: a, name: b}\n", "line 2: 'name' is already on line 2"),
    ],
)
def test_a_file_that_is_not_a_policy(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in problems_of(tmp_path / "p.yaml", text)


def test_a_binary_file_is_not_a_policy(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="is not YAML"):
        load_policy(str(tmp_path / "p.yaml"))


def test_an_unknown_name_lists_the_shipped_policies(tmp_path: Path) -> None:
    assert "medical" in shipped_policies()
    with pytest.raises(ConfigurationError, match=r"a shipped policy \(medical\)\. Did you mean 'medical'\?"):
        load_policy("medicl")
    with pytest.raises(ConfigurationError, match=r"neither a file nor a shipped policy \(medical\)"):
        load_policy(str(tmp_path))


def test_the_recipe_reports_an_invalid_policy(tmp_path: Path) -> None:
    assert SafetyConfig().policy == ""
    assert SafetyConfig(policy="s3://bucket/not-read-yet.yaml").policy
    assert SafetyConfig(policy="medical").policy == "medical"
    with pytest.raises(ValueError, match="a shipped policy"):
        SafetyConfig(policy="medicl")
    (tmp_path / "p.yaml").write_text(BROKEN)
    with pytest.raises(ValueError, match="11 invalid values"):
        SafetyConfig(policy=str(tmp_path / "p.yaml"))


def test_a_policy_is_read_back_from_the_model_folder(load: Load, tmp_path: Path) -> None:
    policy = load()
    assert read_policy(tmp_path) is None
    write_policy(policy, tmp_path)
    assert read_policy(tmp_path) == policy
    assert Policy.of(policy.model_dump(mode="json")) == policy
    assert Policy.of(None) is None
    assert load(description="other").digest != policy.digest == load().digest
    (tmp_path / "policy.yaml").write_text("name: x")
    with pytest.raises(ConfigurationError, match=r"policy\.yaml has \d invalid values"):
        read_policy(tmp_path)


def test_the_boundaries_are_listed_in_the_system_prompt(load: Load) -> None:
    policy = load()
    assert policy.system_prompt == "You sell tea. You must not:\n- advise on health.\nBe kind."
    ask = [{"role": "user", "content": "hello"}]
    whole = policy.with_system_prompt(ask)
    assert whole == [{"role": "system", "content": policy.system_prompt}, *ask]
    assert policy.with_system_prompt(whole) == whole
    own = [{"role": "system", "content": "mine"}, *ask]
    assert policy.with_system_prompt(own) == own
    assert load(system_prompt="", boundaries=[], categories=[]).with_system_prompt(ask) == ask


def test_a_policy_is_loaded_from_the_object_store(load: Load, s3: dict[str, str], tmp_path: Path) -> None:
    policy = load()
    storage.upload(tmp_path / "small.yaml", "s3://policies/small.yaml")
    assert load_policy("s3://policies/small.yaml") == policy
    storage.upload(tmp_path / "small.yaml", "s3://policies/other.yaml")
    with pytest.raises(ConfigurationError, match="is 2 files; give"):
        load_policy("s3://policies")


def test_a_policy_imports_no_heavy_package() -> None:
    script = (
        "import sys; from loraline.safety.policy_files import load_policy;"
        "from loraline.safety.screening import check_answer; p = load_policy('medical');"
        "check_answer(p, [], 'Take 2 tablets now.'); heavy = {'torch', 'transformers', 'pyarrow'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
