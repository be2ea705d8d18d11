"""Personal data and the policy: what is reported, masked and dropped, before rows are hashed."""

from pathlib import Path
from typing import Any

import pytest

from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.dataset_files import PAGE, ROW_FILES, Message
from loraline.data.formats.row_formats import RowContent
from loraline.data.messages import message_text, tools_text
from loraline.data.row_screening import RowScreener
from loraline.data.rows import Row, read_rows
from loraline.errors import DatasetError
from loraline.safety.personal_data import find_personal_data
from loraline.safety.policy import Policy
from tests.loraline.data.conftest import Prepare, pairs

_PERSONAL = [
    {"prompt": "Who is jane.doe@mail.org?", "completion": "She has the number +49 30 1234567."},
    {"prompt": "And john@mail.org?", "completion": "He pays with 4111 1111 1111 1111."},
]
_POLICY: dict[str, Any] = {
    "name": "test",
    "version": "1",
    "description": "a policy to test with",
    "system_prompt": "Be kind.",
    "categories": [
        {"name": "poison", "description": "p", "patterns": ["arsenic"], "actions": {"rows": "drop"}},
        {"name": "weather", "description": "w", "patterns": ["rain"], "actions": {"rows": "report"}},
    ],
    "refusal": {"text": "No.", "patterns": ["^No"]},
}


def _contents(folder: Path) -> list[str]:
    rows = [row for split in ("train", "eval") for row in read_rows(folder / "out" / ROW_FILES[split])]
    return [turn["content"] for row in rows for turn in row.messages or []]


@pytest.mark.parametrize("action", ["report", "mask", "drop"])
def test_personal_data_are_counted_and_never_shown(action: str, tmp_path: Path, run: Prepare) -> None:
    report = run([*pairs(60), *_PERSONAL], personal_data=action)
    findings = report.personal_data
    assert (findings.action, findings.rows) == (action, 2)
    assert findings.counts == {"email": 2, "phone": 1, "card": 1}
    assert [(one.origin.rsplit(":", 1)[1], one.category) for one in findings.examples] == [
        ("61", "email"), ("61", "phone"), ("62", "email"), ("62", "card"),
    ]  # fmt: skip
    assert findings.examples[1].excerpt == "She has the number [PHONE]."
    dropped = 2 if action == "drop" else 0
    assert findings.dropped == report.rows.personal_data == dropped
    assert report.rows.read == 62 == report.rows.train + report.rows.eval + dropped
    contents = _contents(tmp_path)
    assert any(find_personal_data(content) for content in contents) == (action == "report")
    assert any("[EMAIL]" in content for content in contents) == (action == "mask")


def test_masking_comes_before_hashing(run: Prepare) -> None:
    masked = [
        {key: value.replace("jane.doe@mail.org", "[EMAIL]") for key, value in row.items()} for row in _PERSONAL[:1]
    ]
    masked[0]["completion"] = "She has the number [PHONE]."
    before = run([*pairs(60), _PERSONAL[0], *masked], personal_data="mask")
    assert before.rows.duplicates == 1
    assert before.fingerprint == run([*pairs(60), *masked]).fingerprint


def test_personal_data_cut_by_an_excerpt_is_masked() -> None:
    screener = RowScreener("report", None)
    text = f"jane.doe@mail.org {'x ' * 28}+49 30 1234567{' x' * 28} 4111 1111 1111 1111"
    screener.screen(RowContent(text=text), "a:1")
    shown = [one.excerpt for one in screener.personal_data().examples]
    assert len(shown) == 3
    assert not any(find_personal_data(excerpt) or "mail.org" in excerpt or "1111" in excerpt for excerpt in shown)
    assert shown[1].startswith("[EMAIL] x")
    assert shown[1].endswith("x [CARD]")


def test_the_policy_drops_reports_and_sets_the_system_prompt(tmp_path: Path, run: Prepare) -> None:
    rows: list[dict[str, Any]] = [
        *pairs(60),
        {"prompt": "Where is the arsenic?", "completion": "In the rain."},
        {"prompt": "What comes from clouds?", "completion": "It is rain."},
        {"prompt": "Who are you?", "completion": "A pirate.", "system": "Be a pirate."},
    ]
    report = run(rows, policy=Policy.model_validate(_POLICY))
    findings = report.policy
    assert findings
    assert (findings.name, findings.rows, findings.dropped) == ("test", 2, 1)
    assert findings.counts == {"weather": 2, "poison": 1}
    assert {(one.origin.rsplit(":", 1)[1], one.category) for one in findings.examples} == {
        ("61", "poison"), ("61", "weather"), ("62", "weather"),
    }  # fmt: skip
    assert report.rows.policy == 1
    assert not any("arsenic" in content for content in _contents(tmp_path))
    kept = [row for split in ("train", "eval") for row in read_rows(tmp_path / "out" / ROW_FILES[split])]
    prompts = [row.messages[0] for row in kept if row.messages]
    assert prompts.count({"role": "system", "content": "Be kind."}) == 61
    assert prompts.count({"role": "system", "content": "Be a pirate."}) == 1
    assert run(rows[:60]).fingerprint != run(rows[:60], policy=Policy.model_validate(_POLICY)).fingerprint


def test_plain_texts_get_no_system_prompt(tmp_path: Path, run: Prepare) -> None:
    run([{"text": f"A text of its own, {number}."} for number in range(60)], policy=Policy.model_validate(_POLICY))
    rows = [row for split in ("train", "eval") for row in read_rows(tmp_path / "out" / ROW_FILES[split])]
    assert all(row.messages is None and row.text for row in rows)


def test_screening_out_all_rows_is_an_error(run: Prepare) -> None:
    rows = [{"prompt": f"q{number}", "completion": f"jane{number}@mail.org"} for number in range(30)]
    with pytest.raises(DatasetError, match="30 with personal data"):
        run(rows, personal_data="drop")


def test_the_report_contains_no_personal_data(tmp_path: Path, run: Prepare) -> None:
    run([*pairs(60), *_PERSONAL], personal_data="mask", policy=Policy.model_validate(_POLICY))
    for name in (DatasetReport.FILE, PAGE):
        assert find_personal_data((tmp_path / "out" / name).read_text(encoding="utf-8")) == []
    policy = DatasetReport.load(tmp_path / "out").policy
    assert policy
    assert policy.dropped == 0


def test_personal_data_in_tool_calls_results_reasoning_and_tools_are_found_and_masked() -> None:
    messages: list[Message] = [
        {"role": "user", "content": "Write to her."},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "She is jane.doe@mail.org.",
            "tool_calls": [
                {"name": "send", "arguments": {"to": ["a\njohn@mail.org"], "card": 4111111111111111, "n": 3}},
            ],
        },
        {"role": "tool", "content": "sent to max@mail.org"},
        {"role": "assistant", "content": "Done."},
    ]
    tools = [{"type": "function", "function": {"name": "send", "description": "As help@mail.org does."}}]
    screener = RowScreener("mask", None)
    row = screener.screen(RowContent(messages, tools=tools), "a:1")
    assert screener.personal_data().counts == {"email": 4, "card": 1}
    assert isinstance(row, Row)
    assert row.messages
    assert row.tools
    texts = [*map(message_text, row.messages), tools_text(row.tools)]
    assert not any(find_personal_data(text) for text in texts)
    assert row.messages[1]["tool_calls"] == [
        {"name": "send", "arguments": {"to": ["a\n[EMAIL]"], "card": "[CARD]", "n": 3}}
    ]


def test_the_policy_looks_into_tool_calls() -> None:
    call: Message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"name": "buy", "arguments": {"x": "Arsenic"}}],
    }
    screener = RowScreener("report", Policy.model_validate(_POLICY))
    assert screener.screen(RowContent([{"role": "user", "content": "Go."}, call]), "a:1") == "policy"
