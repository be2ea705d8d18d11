"""Text in other encodings than UTF-8, and Excel workbooks."""

import csv
import datetime
import gzip
import io
import json
from pathlib import Path

import openpyxl
import pytest

from loraline.artifacts.dataset_files import EVAL_ROWS, TRAIN_ROWS
from loraline.data.rows import read_rows
from loraline.errors import ConfigurationError, DatasetError
from tests.loraline.data.conftest import Prepare

_ROWS = [
    {"prompt": f"Wie hei\u00dft Caf\u00e9 {n}?", "completion": f"\u201eZ\u00fcri\u201c {n}, 5 \u20ac"}
    for n in range(60)
]


def _json(rows: list[dict[str, str]]) -> str:
    return json.dumps(rows, ensure_ascii=False, indent=1)


def _jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)


def _csv(rows: list[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["prompt", "completion"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _txt(rows: list[dict[str, str]]) -> str:
    return "\n\n".join(f"{row['prompt']} {row['completion']}." for row in rows)


_WRITERS = {"a.json": _json, "a.jsonl": _jsonl, "a.csv": _csv, "a.txt": _txt}


def _contents(folder: Path) -> set[str]:
    rows = [row for file in (TRAIN_ROWS, EVAL_ROWS) for row in read_rows(folder / "out" / file)]
    return {row.text or json.dumps(row.messages) for row in rows}


@pytest.mark.parametrize("name", _WRITERS)
def test_utf16_is_read_as_it_is_and_others_by_a_setting(name: str, tmp_path: Path, run: Prepare) -> None:
    text = _WRITERS[name](_ROWS)
    settings = {"chunk_tokens": 64, "chunk_overlap": 0} if name == "a.txt" else {}
    (tmp_path / name).write_bytes(text.encode("utf-8"))
    run(tmp_path / name, **settings)
    expected = _contents(tmp_path)
    assert any("Z\u00fcri" in one or "Z\\u00fcri" in one for one in expected)
    for encoding in ("utf-16", "utf-32", "utf-8-sig"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        run(tmp_path / name, **settings)
        assert _contents(tmp_path) == expected, encoding
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode("cp1252")))
    run(tmp_path / f"{name}.gz", encoding="windows-1252", **settings)
    assert _contents(tmp_path) == expected
    (tmp_path / name).write_bytes(text.encode("cp1252"))
    with pytest.raises(DatasetError, match="data\\.encoding=cp1252"):
        run(tmp_path / name, **settings)


def test_the_hint_shows_what_the_encoding_reads(tmp_path: Path, run: Prepare) -> None:
    (tmp_path / "a.jsonl").write_bytes(_jsonl(_ROWS).encode("cp1252"))
    with pytest.raises(DatasetError, match=r"data\.encoding=cp1252 reads '.*hei\u00dft Caf\u00e9 0"):
        run(tmp_path / "a.jsonl")


def test_an_encoding_without_effect_is_refused(run: Prepare) -> None:
    with pytest.raises(ConfigurationError, match="encoding = 'cp1252' has no effect"):
        run("builtin:dates", encoding="cp1252")


def test_excel(tmp_path: Path, run: Prepare) -> None:
    book = openpyxl.Workbook()
    first = book.active
    assert first is not None
    first.append(["Question", "Answer", "Note"])
    for number in range(40):
        first.append([f"What is {number}?", number if number % 2 else datetime.date(2020, 1, 1 + number % 28), None])
    first.append([None, None, None])
    second = book.create_sheet("More")
    second.append(["Question", "Answer"])
    for number in range(40, 60):
        second.append([f"What is {number}?", float(number)])
    book.save(tmp_path / "a.xlsx")
    report = run(tmp_path / "a.xlsx")
    assert report.rows.read == 60
    rows = {row.origin: row.messages for file in (TRAIN_ROWS, EVAL_ROWS) for row in read_rows(tmp_path / "out" / file)}
    told = {
        origin.removeprefix(str(tmp_path)): [turn["content"] for turn in turns or []] for origin, turns in rows.items()
    }
    assert told["/a.xlsx:Sheet:3"] == ["What is 1?", "1"]
    assert told["/a.xlsx:Sheet:4"] == ["What is 2?", "2020-01-03"]
    assert told["/a.xlsx:More:2"] == ["What is 40?", "40"]


@pytest.mark.parametrize("name", ["a.xls", "a.ods"])
def test_other_spreadsheets_are_refused_with_the_way_out(name: str, tmp_path: Path, run: Prepare) -> None:
    (tmp_path / name).write_bytes(b"not read")
    with pytest.raises(DatasetError, match=r"save \.xls and \.ods as \.xlsx or \.csv"):
        run(tmp_path / name)


def test_what_is_no_workbook_is_named(tmp_path: Path, run: Prepare) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK no")
    with pytest.raises(DatasetError, match=r"a\.xlsx.*not an Excel workbook"):
        run(tmp_path / "a.xlsx")


def test_semicolons_as_a_spreadsheet_writes_them(tmp_path: Path, run: Prepare) -> None:
    (tmp_path / "a.csv").write_text("prompt;completion\n" + "".join(f"Was ist {n}?;{n},5\n" for n in range(50)))
    report = run(tmp_path / "a.csv")
    assert report.rows.read == 50
    assert any("7,5" in one for one in _contents(tmp_path))
