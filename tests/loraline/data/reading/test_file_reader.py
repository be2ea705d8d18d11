"""Every format gives the same rows; what cannot be read is named with its place."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from loraline.artifacts.dataset import RowProblem
from loraline.artifacts.dataset_files import TRAIN_ROWS
from loraline.data.reading.chunker import Chunker
from loraline.data.reading.file_reader import read_file
from loraline.data.reading.records import SourceRecord
from loraline.data.reading.source_files import SourceFile, list_files
from loraline.data.rows import read_rows
from loraline.errors import DatasetError
from tests.loraline.data.conftest import Prepare, pairs

Rows = list[dict[str, str]]


def _jsonl(rows: Rows, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _jsonl_of_windows(rows: Rows, path: Path) -> None:
    text = "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes(text.encode("utf-8-sig"))


def _json(rows: Rows, path: Path) -> None:
    path.write_text(json.dumps(rows, indent=2), encoding="utf-8-sig")


def _json_objects(rows: Rows, path: Path) -> None:
    path.write_text("\n".join(json.dumps(row, indent=1) for row in rows), encoding="utf-8")


def _delimited(delimiter: str) -> Callable[[Rows, Path], None]:
    def write(rows: Rows, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)

    return write


def _parquet(rows: Rows, path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


_WRITERS = {
    "a.jsonl": _jsonl,
    "b.jsonl": _jsonl_of_windows,
    "c.json": _json,
    "d.json": _json_objects,
    "e.csv": _delimited(","),
    "f.tsv": _delimited("\t"),
    "g.parquet": _parquet,
}


def _compress(path: Path, ending: str) -> Path:
    if not ending:
        return path
    target = path.with_name(path.name + ending)
    if ending == ".gz":
        middle = path.stat().st_size // 2  # two members, as `cat a.gz b.gz` makes them
        data = path.read_bytes()
        target.write_bytes(gzip.compress(data[:middle]) + gzip.compress(data[middle:]))
    else:
        with pyarrow.CompressedOutputStream(str(target), "zstd") as stream:
            stream.write(path.read_bytes())
    return target


@pytest.mark.parametrize(
    ("name", "ending"),
    [(name, ending) for name in _WRITERS for ending in ("", ".gz", ".zst") if not (ending and "parquet" in name)],
)
def test_formats_and_compressions_give_the_same_rows(name: str, ending: str, tmp_path: Path, run: Prepare) -> None:
    rows = pairs(200)
    expected = run(rows)
    shuffled = rows[100:] + rows[:100]
    _WRITERS[name](shuffled, tmp_path / name)
    report = run(_compress(tmp_path / name, ending))
    assert report.fingerprint == expected.fingerprint
    assert report.rows == expected.rows
    assert report.rows.train + report.rows.eval == 200


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("file_format", ["auto", "parquet"])
def test_compressed_parquet_is_refused(file_format: str, ending: str, tmp_path: Path) -> None:
    _parquet(pairs(5), tmp_path / "rows.parquet")
    path = _compress(tmp_path / "rows.parquet", ending)
    with pytest.raises(DatasetError, match=rf"rows\.parquet\{ending}'.*not supported.*decompress"):
        list_files(str(path), file_format)


def test_all_files_of_a_folder_are_read(tmp_path: Path, run: Prepare) -> None:
    expected = run(pairs(200))
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    _jsonl(pairs(80), folder / "one.jsonl")
    _jsonl(pairs(120, first=80), folder / "deeper" / "two.jsonl")
    _compress(folder / "deeper" / "two.jsonl", ".zst")
    (folder / "deeper" / "two.jsonl").unlink()
    (folder / "LICENSE").write_text("free")
    (folder / ".hidden.csv").write_text("x")
    assert run(folder).fingerprint == expected.fingerprint


def test_objects_of_one_file_each(tmp_path: Path, run: Prepare) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, row in enumerate(pairs(50)):
        (folder / f"{number}.json").write_text(json.dumps(row))
    assert run(folder).fingerprint == run(pairs(50)).fingerprint


def test_the_format_can_be_set(tmp_path: Path, run: Prepare) -> None:
    _jsonl(pairs(50), tmp_path / "rows.data")
    with pytest.raises(DatasetError, match=r"rows\.data.*data\.format"):
        run(tmp_path / "rows.data")
    assert run(tmp_path / "rows.data", format="jsonl").rows.read == 50


def test_a_folder_of_several_formats_is_refused(tmp_path: Path, run: Prepare) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    _jsonl(pairs(50), folder / "rows.jsonl")
    (folder / "notes.txt").write_text("Some notes.")
    with pytest.raises(DatasetError, match="several formats"):
        run(folder)
    assert run(folder, format="jsonl").rows.read == 50


def test_a_source_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        list_files(str(tmp_path / "nowhere"), "auto")


def _read(path: Path, content: bytes) -> tuple[list[int], list[RowProblem]]:
    """Lines of the good records, and the problems."""
    path.write_bytes(content)
    [file] = list_files(str(path), "auto")
    chunker = Chunker(lambda texts: [len(text.split()) for text in texts], 16, 0)
    results = list(read_file(file, "auto", chunker, lambda _: None))
    good = [result.line for result in results if isinstance(result, SourceRecord)]
    return good, [result for result in results if isinstance(result, RowProblem)]


def _summary(problems: list[RowProblem]) -> list[tuple[int, str, bool]]:
    return [(problem.line, problem.kind, problem.fatal) for problem in problems]


def test_bad_lines_of_jsonl(tmp_path: Path) -> None:
    lines = [b'{"a": 1}', b"", b'{"a": ', b'{"a": "\xff"}', b"[1]", b"[" * 100000, b"9" * 5000, b'{"a": 2}']
    good, problems = _read(tmp_path / "x.jsonl", b"\n".join(lines))
    assert good == [1, 8]
    assert _summary(problems) == [
        (3, "invalid JSON", False),
        (4, "invalid UTF-8", False),
        (5, "not an object", False),
        (6, "invalid JSON", False),
        (7, "invalid JSON", False),
    ]
    assert "byte 0xff at byte 8" in problems[1].reason


def test_bad_lines_of_csv(tmp_path: Path) -> None:
    lines = [b"p,c", b"1,2", b"1", b"1,2,3", b'"a', b'b",2', b'"a"b,2', b"3,4", b'5,"6']
    good, problems = _read(tmp_path / "x.csv", b"\n".join(lines))
    assert good == [2, 5, 8]
    assert _summary(problems) == [
        (3, "wrong number of fields", False),
        (4, "wrong number of fields", False),
        (7, "malformed row", False),
        (9, "malformed row", False),
    ]


def test_a_repeated_column_of_csv(tmp_path: Path) -> None:
    _, [problem] = _read(tmp_path / "x.csv", b"p,c,p\n1,2,3\n")
    assert problem.fatal
    assert "p" in problem.reason


@pytest.mark.parametrize("content", [b'[{"a": 1}, {"a": }]', b'[{"a": 1}, {"a": "\xff"}]', b'[{"a": 1}, {"a'])
def test_a_broken_array_ends_the_file(content: bytes, tmp_path: Path) -> None:
    good, problems = _read(tmp_path / "x.json", content)
    assert good == [1]
    assert _summary(problems) == [(2, "unreadable file", True)]


def test_an_array_with_values_that_are_not_objects(tmp_path: Path) -> None:
    good, problems = _read(tmp_path / "x.json", b'[{"a": 1}, 3, {"a": 2}]')
    assert good == [1, 3]
    assert _summary(problems) == [(2, "not an object", False)]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_truncated_stream_is_fatal(ending: str, tmp_path: Path) -> None:
    _jsonl(pairs(3000), tmp_path / "whole.jsonl")
    whole = _compress(tmp_path / "whole.jsonl", ending).read_bytes()
    _, problems = _read(tmp_path / f"x.jsonl{ending}", whole[:-100])
    assert [problem.kind for problem in problems if problem.fatal] == ["unreadable file"]


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl.zst", "x.parquet"])
def test_a_file_of_another_format_than_its_suffix(name: str, tmp_path: Path) -> None:
    good, problems = _read(tmp_path / name, b"This is plain text, whatever the name says.\n")
    assert good == []
    assert _summary(problems) == [(1, "unreadable file", True)]


def test_parquet_with_bytes_that_are_not_text(tmp_path: Path, run: Prepare) -> None:
    broken = pyarrow.array([b"fine", b"\xff\xfe", b"fine too"]).cast(pyarrow.binary()).view(pyarrow.string())
    table = pyarrow.table({"text": broken})
    pyarrow.parquet.write_table(table, tmp_path / "good.parquet")
    good, problems = _read(tmp_path / "x.parquet", (tmp_path / "good.parquet").read_bytes())
    assert good == [1, 3]
    assert _summary(problems) == [(2, "invalid UTF-8", False)]
    assert problems[0].column == "text"


def test_text_lines_that_are_not_utf8(tmp_path: Path) -> None:
    good, problems = _read(tmp_path / "x.txt", b"One sentence.\nbroken \xff line\nAnother sentence.\n")
    assert good == [1]
    assert _summary(problems) == [(2, "invalid UTF-8", False)]


def test_progress_is_reported_to_the_end(tmp_path: Path) -> None:
    _jsonl(pairs(2000), tmp_path / "x.jsonl")
    [file] = list_files(str(tmp_path / "x.jsonl"), "auto")
    updates: list[int] = []
    chunker: Any = None
    list(read_file(file, "auto", chunker, updates.append))
    assert updates == sorted(updates)
    assert updates[-1] == file.size
    assert isinstance(file, SourceFile)


def test_origins_are_file_and_line(tmp_path: Path, run: Prepare) -> None:
    run(pairs(50))
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    for row in read_rows(tmp_path / "out" / TRAIN_ROWS):
        file, line = row.origin.rsplit(":", 1)
        assert file == str(tmp_path / "rows.jsonl")
        assert row.messages is not None
        assert json.loads(lines[int(line) - 1])["prompt"] == row.messages[0]["content"]
