"""The check that what the rows say is in the tokens."""

from pathlib import Path

from loraline.artifacts.dataset import ContentReport, DatasetReport, LostText
from tests.loraline.gate.gate_runs import assert_rejected, decide, named
from tests.loraline.run_outputs import change, write_outputs


def test_rows_whose_texts_are_lost_are_a_reject(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    words = "200 of 200 prompts and 200 of 200 answers were found again in the tokens of their rows"
    assert named(decide(outputs), "content").detail == words
    lost = LostText(origin="a.jsonl:1", part="completion", text="the third of May", tokens="<|end|>")
    report = ContentReport(rows=200, prompts=200, without_prompt=0, without_answer=30, examples=[lost])
    change(DatasetReport, outputs.dataset, content=report)
    assert_rejected(outputs, "content", "of 200 rows 0 lost their prompt and 30 their answer; a.jsonl:1")


def test_a_few_odd_rows_are_none(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    report = ContentReport(rows=200, prompts=200, without_prompt=3, without_answer=0, examples=[])
    change(DatasetReport, outputs.dataset, content=report)
    assert named(decide(outputs), "content").passed


def test_no_row_at_all_is_no_proof(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    report = ContentReport(rows=0, prompts=0, without_prompt=0, without_answer=0, examples=[])
    change(DatasetReport, outputs.dataset, content=report)
    assert_rejected(outputs, "content", "no row was encoded and decoded again")


def test_plain_text_has_no_prompt_and_none_is_counted(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    report = ContentReport(rows=50, prompts=0, without_prompt=0, without_answer=0, examples=[])
    change(DatasetReport, outputs.dataset, content=report)
    detail = named(decide(outputs), "content").detail
    assert detail == "50 of 50 texts were found again in the tokens of their rows"
