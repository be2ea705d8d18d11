from pathlib import Path

import pytest

from loraline.data.rows import Row, RowWriter, content_hash, read_rows
from loraline.errors import DatasetError


def _turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]


def _some_row(number: int) -> Row:
    if number % 5 == 0:
        return Row.of(text=f"text {number}", origin=f"a:{number}")
    return Row.of(_turns(*["\u00e9" * number, "b"] * (number % 3)), origin=f"a:{number}")


def test_rows_are_read_as_written_sorted_by_id(tmp_path: Path) -> None:
    rows = [_some_row(number) for number in range(2500)]
    with RowWriter(tmp_path / "rows.parquet") as writer:
        for row in rows:
            writer.write(row)
    assert read_rows(tmp_path / "rows.parquet") == sorted(rows, key=lambda row: row.id)


def test_the_id_depends_on_content_alone() -> None:
    assert Row.of(_turns("a", "b"), origin="x:1").id == Row.of(_turns("a", "b"), origin="y:2").id
    others = [_turns("a", "c"), _turns("ab", ""), _turns("a", "b", "c"), _turns("b", "a")]
    ids = {content_hash(turns, None) for turns in [_turns("a", "b"), *others]} | {content_hash(None, "a")}
    assert len(ids) == 6


def test_no_rows_at_all(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "rows.parquet"):
        pass
    assert read_rows(tmp_path / "rows.parquet") == []


def test_a_file_that_is_no_prepared_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"missing\.parquet"):
        read_rows(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DatasetError, match=r"text\.parquet"):
        read_rows(tmp_path / "text.parquet")
