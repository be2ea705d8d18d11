import re
from pathlib import Path

import pytest

from tests.components.prepare_dataset.conftest import Prepare, pairs

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
