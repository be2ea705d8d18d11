import json
import re
from pathlib import Path

import pytest

from tests.loraline.data.conftest import Prepare, pairs
from tests.loraline.data.texts import edited, texts

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
    assert not re.search(r"(src|href|url\(|@import)", page)
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
    summary = page[page.index('class="notes"') : page.index("Where the rows went")]
    looked_at = re.findall(r'<li class="look">(.*?)</li>', summary)
    assert len(looked_at) == 5
    for said in (
        "60.00% of the rows to evaluate on (30 of 50) copied",
        "30 rows nearly repeating",
        "1 row with personal data (1 email)",
        "1 row with an empty answer",
        "data.general_source is empty",
    ):
        assert any(said in one for one in looked_at), said
    # Details are folded, with the lines.
    details = page[page.index("What was found") :]
    assert "Copies of rows to evaluate on: 30 of 50" in details
    assert f"{tmp_path / 'rows.jsonl'}:61" in details
    assert f"{held_out}:21" in details
    assert "Who is [EMAIL]?" in details
    assert not re.search(r"<details[^>]*open", details)


def test_where_all_is_well_nothing_is_to_be_looked_at(tmp_path: Path, run: Prepare) -> None:
    run([{"text": text} for text in texts(60, 30)], general_source="builtin:dates-general")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'class="look"' not in page
    assert "300 general rows" in page


def _long(number: int) -> list[dict[str, str]]:
    questions, answers = texts(number, 40), texts(number, 30, seed=1)
    return [{"prompt": q, "completion": a} for q, a in zip(questions, answers, strict=True)]
