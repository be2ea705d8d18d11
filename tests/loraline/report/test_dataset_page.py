"""The page of a prepared dataset."""

import json
import re
from pathlib import Path

import pytest

from tests.loraline.data.conftest import Prepare, pairs
from tests.loraline.data.texts import edited, texts
from tests.loraline.report.parsed_page import parse

_HOSTILE = {"prompt": "<script>alert(1)</script> & 'more'", "completion": "<b>bold</b>"}


@pytest.fixture
def page(tmp_path: Path, run: Prepare) -> str:
    rows = pairs(60)
    run([_HOSTILE, *rows, rows[0], {"prompt": "<i>bad</i>", "completion": ["<u>"]}], max_bad_fraction=0.1)
    return (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_the_page_tells_what_was_dropped_and_where(page: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    assert f"{file}:63" in page
    assert "must be text, is list" in page
    assert f"{file}:62" in page
    assert "wrong type: 1" in page


def test_what_rows_hold_is_shown_and_not_run(page: str) -> None:
    assert "<script" not in page
    assert "<u>" not in page


def test_the_page_asks_nothing_of_the_network(page: str) -> None:
    assert parse(page).ids == {"checks", "rows", "lengths", "samples"}
    assert "<svg" in page


def test_long_samples_are_cut(tmp_path: Path, run: Prepare) -> None:
    run([{"prompt": f"{n}", "completion": "long " * 10000} for n in range(50)])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "more characters)" in page
    assert len(page) < 100_000


def test_the_page_begins_with_what_to_look_at(tmp_path: Path, run: Prepare) -> None:
    clean = pairs(60)
    held_out = tmp_path / "eval.jsonl"
    held_out.write_text(
        "".join(json.dumps(row) + "\n" for row in [*pairs(20, first=100), *_long(30)]), encoding="utf-8"
    )
    found = [{"prompt": edited(row["prompt"], 1), "completion": row["completion"]} for row in _long(30)] + [
        {"prompt": "Who is jane@mail.org?", "completion": "Nobody."},
        {"prompt": "Empty", "completion": ""},
    ]
    run([*clean, *found], eval_source=str(held_out), max_bad_fraction=0.1)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    attention = re.findall(r'<li class="attention"><b>(.*?)</b>.*?<div class="detail">(.*?)<', page)
    assert dict(attention) == {
        "Contamination": "30 of 50 held-out rows (60%) are copied in training rows; on these the evaluation measures "
        "memorization",
        "Near-duplicates": "30 rows nearly identical to another: 0 within train, 0 within eval, 30 across train and "
        "eval; kept; data.near_duplicates=drop removes them",
        "Personal data": "1 row with 1 email; unchanged",
        "Empty completions": "1 row, dropped as invalid",
        "General set": "data.general_source is empty: forgetting is not measured on general rows",
    }
    assert "5 of 6 checks need attention" in page
    assert page.index('id="checks"') < page.index('id="rows"')
    # The rows are folded, with their lines.
    rows = page[page.index('id="checks"') : page.index('id="rows"')]
    assert f"<code>{held_out}:21</code><span>100% as in {tmp_path / 'rows.jsonl'}:61" in rows
    assert "email: Who is [EMAIL]?" in rows
    assert not re.search(r"<details[^>]*open", page)


def test_where_every_check_passes_nothing_needs_attention(tmp_path: Path, run: Prepare) -> None:
    run([{"text": text} for text in texts(60, 30)], general_source="builtin:dates-general")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'class="attention"' not in page
    assert "All 6 checks passed" in page
    assert "300 rows of builtin:dates-general to measure forgetting on" in page


def _long(number: int) -> list[dict[str, str]]:
    questions, answers = texts(number, 40), texts(number, 30, seed=1)
    return [{"prompt": q, "completion": a} for q, a in zip(questions, answers, strict=True)]
