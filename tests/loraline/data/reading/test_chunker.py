import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet
import pytest

from loraline.artifacts.dataset_files import ROW_FILES, TRAIN_ROWS
from loraline.data.config import DataConfig
from loraline.data.description.lengths import token_counter
from loraline.data.prepare import prepare
from loraline.data.reading.chunker import Chunk, Chunker
from loraline.data.rows import read_rows
from loraline.errors import ConfigurationError
from loraline.models.folder import load_tokenizer
from loraline.quickstart import scratch_model
from tests.loraline.data.conftest import Prepare, pairs
from tests.loraline.data.texts import texts

Count = Callable[[list[str]], list[int]]


@pytest.fixture(scope="module")
def count(tokenizer_folder: Path) -> Count:
    return token_counter(load_tokenizer(tokenizer_folder))


def _chunks(text: str, count: Count, limit: int, overlap: int) -> list[Chunk]:
    lines = enumerate(text.splitlines(keepends=True), 1)
    return list(Chunker(count, limit, overlap).chunks(lines))


def _story(sentences: int) -> str:
    """Sentences of several lengths, some over two lines, with paragraphs."""
    parts = [
        f"Number {n} is {'much ' * (n % 7)}larger than\nnumber {n - 1}." + ("\n\n" if n % 5 == 0 else " ")
        for n in range(sentences)
    ]
    return "".join(parts)


def test_without_overlap_the_chunks_are_the_text(count: Count) -> None:
    text = _story(200)
    chunks = _chunks(text, count, 100, 0)
    assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(text.split())
    assert len(chunks) > 10


@pytest.mark.parametrize("overlap", [0, 40])
def test_chunks_are_within_the_limit_and_end_at_sentence_ends(overlap: int, count: Count) -> None:
    chunks = _chunks(_story(300), count, 100, overlap)
    assert max(count([chunk.text for chunk in chunks])) <= 100
    assert all(chunk.text.endswith(".") and chunk.text.startswith("Number") for chunk in chunks)


def test_chunks_of_a_group_overlap_and_those_of_different_groups_do_not(count: Count) -> None:
    chunks = _chunks(_story(300), count, 200, 100)
    assert len({chunk.group for chunk in chunks}) > 2
    for before, after in itertools.pairwise(chunks):
        first = after.text.split(".")[0]
        repeated = first in before.text
        assert repeated == (before.group == after.group)


def test_a_chunk_has_its_line_number(count: Count) -> None:
    text = _story(100)
    lines = text.splitlines()
    for chunk in _chunks(text, count, 100, 40):
        assert chunk.text.split("\n")[0] in lines[chunk.line - 1]


def test_groups_are_unchanged_when_text_is_added_at_the_end(count: Count) -> None:
    short, long = _chunks(_story(200), count, 100, 40), _chunks(_story(260), count, 100, 40)
    assert [chunk.group for chunk in short] == [chunk.group for chunk in long[: len(short)]]


def test_a_sentence_that_is_too_long_is_cut_at_white_space(count: Count) -> None:
    chunks = _chunks("word " * 1000 + "x" * 1000, count, 64, 0)
    assert max(count([chunk.text for chunk in chunks])) <= 64
    assert all(set(chunk.text.split()) == {"word"} for chunk in chunks[:10])
    assert "".join(chunk.text for chunk in chunks).replace(" ", "") == "word" * 1000 + "x" * 1000


def test_abbreviations_end_no_sentence(count: Count) -> None:
    text = "Mr. Smith met J. S. Bach, e.g. in Leipzig! " * 20
    chunks = _chunks(text, count, 60, 0)
    assert all(chunk.text.startswith("Mr.") and chunk.text.endswith("!") for chunk in chunks)


def test_text_without_any_space_or_end(count: Count) -> None:
    text = "\u65e5\u672c\u8a9e" * 30000
    chunks = _chunks(text, count, 512, 64)
    assert "".join(chunk.text for chunk in chunks) == text
    assert max(count([chunk.text for chunk in chunks])) <= 512


def test_empty_text_has_no_chunks(count: Count) -> None:
    assert _chunks("", count, 64, 0) == []
    assert _chunks(" \n\n \n", count, 64, 0) == []


def test_a_folder_of_texts_is_prepared_without_leaks(tmp_path: Path, run: Prepare) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    for book in range(4):
        (folder / f"{book}.txt").write_text(f"Book {book}.\n\n" + _story(400).replace("Number", f"Book {book}: number"))
    report = run(folder, chunk_tokens=100, chunk_overlap=40, eval_fraction=0.3)
    assert report.sources[0].row_format == "text"
    assert report.lengths.train["completion"].max <= 100
    train, held_out = (read_rows(tmp_path / "out" / ROW_FILES[split]) for split in ("train", "eval"))
    sentences = [
        {sentence.strip() for row in rows for sentence in (row.text or "").split(".") if len(sentence) > 20}
        for rows in (train, held_out)
    ]
    assert sentences[0].isdisjoint(sentences[1])


def _texts_of(folder: Path) -> set[str]:
    return {row.text or "" for split in ("train", "eval") for row in read_rows(folder / ROW_FILES[split])}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.csv"])
def test_a_text_column_is_chunked_as_a_text_file_is(name: str, tmp_path: Path, run: Prepare) -> None:
    story = _story(400)
    (tmp_path / "story.txt").write_text(story)
    table = pyarrow.Table.from_pylist([{"text": story}])
    writers = {
        "rows.jsonl": lambda path: path.write_text(json.dumps({"text": story})),
        "rows.parquet": lambda path: pyarrow.parquet.write_table(table, path),
        "rows.csv": lambda path: pyarrow.csv.write_csv(table, path),
    }
    writers[name](tmp_path / name)
    settings: dict[str, Any] = {"chunk_tokens": 100, "chunk_overlap": 40, "eval_fraction": 0.3}
    expected = run(tmp_path / "story.txt", **settings)
    chunks = _texts_of(tmp_path / "out")
    report = run(tmp_path / name, **settings)
    assert report.fingerprint == expected.fingerprint
    assert report.rows == expected.rows
    assert _texts_of(tmp_path / "out") == chunks
    assert len(chunks) > 10
    origins = {row.origin for row in read_rows(tmp_path / "out" / TRAIN_ROWS)}
    assert {origin.rsplit(":", 1)[0] for origin in origins} == {str(tmp_path / name)}
    assert len(origins) == 1, "each chunk leads back to the row that it is cut from"


def test_short_texts_are_left_as_they_are(tmp_path: Path, run: Prepare) -> None:
    short = [f" A text of its own, number {number}.\n\n" for number in range(60)]
    report = run([{"text": text} for text in short], chunk_tokens=64, chunk_overlap=8)
    assert report.rows.read == 60
    assert _texts_of(tmp_path / "out") == set(short)


@pytest.mark.parametrize("setting", [{"chunk_tokens": 256}, {"chunk_overlap": 32}])
def test_chunk_settings_without_effect_are_refused(setting: dict[str, int], tmp_path: Path, run: Prepare) -> None:
    (name, value), *_ = setting.items()
    message = rf"data\.{name} = {value} has no effect.*rows\.jsonl' \(prompt-completion\).*data\.columns\.text"
    with pytest.raises(ConfigurationError, match=message):
        run(pairs(60), **setting)
    (tmp_path / "general.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(30, 20)))
    report = run(pairs(60), general_source=str(tmp_path / "general.jsonl"), **setting)
    assert report.general, "the general rows are plain text, so that the setting has an effect"


@pytest.mark.parametrize("eval_fraction", [0.2, 0.8])  # the first file is in train, then in eval
def test_a_chunk_that_several_files_share_stays_in_one_split(
    eval_fraction: float, tmp_path: Path, run: Prepare
) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    for book in range(30):
        (folder / f"{book}.txt").write_text(f"Book {book} has {'many ' * 14}pages.\n\nLicensed to {'you ' * 15}.\n")
    report = run(folder, chunk_tokens=100, chunk_overlap=0, eval_fraction=eval_fraction)
    repeated = report.rows.prompt_overlap + report.rows.duplicates
    assert report.rows.prompt_overlap
    first = {row.origin for row in read_rows(tmp_path / "out" / ROW_FILES["train" if eval_fraction < 0.5 else "eval"])}
    assert {one.other_origin for one in report.prompt_overlaps} <= first
    assert report.rows.read == report.rows.train + report.rows.eval + repeated


def test_no_chunk_is_cut_by_the_length_of_training(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    scratch_model.save_tokenizer_and_config(tmp_path / "model")
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": _story(40) + str(number)}) + "\n" for number in range(20)))
    report = prepare(DataConfig(source=str(file)), tmp_path / "model", tmp_path / "out", max_length=100)
    assert report.answers.truncation
    assert report.answers.truncation.rows == 0
    assert report.lengths.train["completion"].max > 80
