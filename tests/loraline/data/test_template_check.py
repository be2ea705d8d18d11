"""What a chat template cannot show is a bad row or a note, counted, before anything is trained."""

import re
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from loraline.artifacts.dataset_files import Message
from loraline.data.config import DataConfig
from loraline.data.prepare import prepare
from loraline.data.rows import Row
from loraline.data.template_check import REASONING_DROPPED, SILENT, TemplateCheck
from loraline.errors import DatasetError
from tests.loraline.data.templates import CALL, CHATML, OPENS, RESULT, THINKS, TOOL, TOOLS, byte_tokenizer

__all__ = ["byte_tokenizer"]

ASKED: Message = {"role": "user", "content": "hi"}
SAID: Message = {"role": "assistant", "content": "hello"}
THOUGHT: Message = {**SAID, "reasoning_content": "the sum"}


@pytest.mark.parametrize(
    ("template", "row", "problem"),
    [
        (CHATML, Row.of([ASKED, THOUGHT]), r"does not show the reasoning of turn 1"),
        (CHATML, Row.of([ASKED, SAID], tools=[TOOL]), r"does not show its tools"),
        (CHATML, Row.of([ASKED, CALL], tools=[TOOL]), r"its tools, the tool calls of turn 1"),
        (CHATML.replace("m.role }}", "m.role if m.role != 'system' else raise_exception('no') }}"),
         Row.of([{"role": "system", "content": "be"}, ASKED, SAID]), "refuses a conversation of roles system, user"),
        (CHATML.replace("in messages", "in messages if m.role != 'system'"),
         Row.of([ASKED, SAID, {"role": "system", "content": "be"}, ASKED, SAID]), r"the content of turn 2 \(system\)"),
        (THINKS + "{% if false %}{{ reasoning_effort }}{% endif %}".replace("false", "true"),
         Row.of([ASKED, SAID]), ""),
        (OPENS, Row.of([ASKED, THOUGHT]), ""),
        (OPENS, Row.of([ASKED, {"role": "assistant", "content": "<think>\nthe sum\n</think>\n\nhello"}]), ""),
        (TOOLS, Row.of([ASKED, CALL, RESULT, SAID], tools=[TOOL]), ""),
    ],
)  # fmt: skip
def test_what_is_not_shown_is_a_problem(
    byte_tokenizer: PreTrainedTokenizerFast, template: str, row: Row, problem: str
) -> None:
    byte_tokenizer.chat_template = template
    found = TemplateCheck(byte_tokenizer).check(row).problem
    assert re.search(problem, found)
    assert bool(found) == bool(problem)


def test_turned_off_thinking_names_the_variable(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    byte_tokenizer.chat_template = "{% set enable_thinking = false %}" + THINKS + "{{ thinking_budget }}"
    found = TemplateCheck(byte_tokenizer).check(Row.of([ASKED, THOUGHT]))
    assert re.search(r"reasoning of turn 1 \(assistant\) as model.chat_template_kwargs is .*thinking", found.problem)


def test_answers_without_loss_and_dropped_reasoning_are_noted(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    byte_tokenizer.chat_template = THINKS
    check = TemplateCheck(byte_tokenizer)
    assert check.check(Row.of([ASKED, SAID])).notes == ()
    assert check.check(Row.of([ASKED, SAID, ASKED, SAID])).notes == (SILENT,)
    assert check.check(Row.of([ASKED, THOUGHT, ASKED, SAID])).notes == (SILENT, REASONING_DROPPED)


def test_rows_that_are_not_shown_are_bad_rows_of_the_report(
    byte_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    byte_tokenizer.chat_template = THINKS
    byte_tokenizer.save_pretrained(tmp_path / "tokenizer")
    source = tmp_path / "rows.jsonl"
    plain = '{"messages": [{"role": "user", "content": "q%d"}, {"role": "assistant", "content": "a"},' * 1
    rows = [plain % n + '{"role": "user", "content": "x"}, {"role": "assistant", "content": "b"}]}' for n in range(40)]
    rows.append('{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "tool_calls": '
                '[{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}]}')  # fmt: skip
    source.write_text("\n".join(rows) + "\n")
    with pytest.raises(DatasetError, match=r"(?s)1 of 41 rows are bad.*rows\.jsonl:41: .*tool calls of turn 1"):
        prepare(DataConfig(source=str(source), general_source=""), tmp_path / "tokenizer", tmp_path / "out")
    report = prepare(
        DataConfig(source=str(source), general_source="", max_bad_fraction=0.1),
        tmp_path / "tokenizer",
        tmp_path / "out",
    )
    assert report.bad_kinds == {"not shown by the template": 1}
    assert {(note.kind, note.rows) for note in report.notes} == {(SILENT, 40)}
