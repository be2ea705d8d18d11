"""Several sources, each with its own columns, format, encoding and slice; and a single address as before."""

import json
from pathlib import Path
from typing import Any

import pydantic
import pytest

from loraline.artifacts.dataset_files import EVAL_ROWS, GENERAL_ROWS, TRAIN_ROWS
from loraline.data.config import DataConfig
from loraline.data.rows import Row, read_rows
from loraline.data.source_address import RowSlice, SourceAddress, parse_address
from loraline.errors import ConfigurationError, DatasetError
from loraline.recipe import Recipe
from loraline.sources.dataset import pin_datasets
from tests.loraline.data.conftest import Prepare, pairs


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _questions(number: int, first: int = 0) -> list[dict[str, str]]:
    return [{"problem": row["prompt"], "worked": row["completion"]} for row in pairs(number, first)]


def _lines(folder: Path, *files: str) -> list[int]:
    rows = [row for file in files for row in read_rows(folder / "out" / file)]
    return sorted(int(row.origin.rpartition(":")[2]) for row in rows)


@pytest.mark.parametrize(
    ("text", "address", "rows"),
    [
        ("my.jsonl", ("my.jsonl", "", "", ""), ""),
        ("my.jsonl[:1000]", ("my.jsonl", "", "", ""), "[:1000]"),
        ("folder/with[brackets]", ("folder/with[brackets]", "", "", ""), ""),
        ("s3://bucket/rows[10%:20%]", ("s3://bucket/rows", "", "", ""), "[10%:20%]"),
        ("hf://owner/name", ("hf://owner/name", "", "", ""), ""),
        ("hf://owner/name/main@test[-100:]", ("hf://owner/name", "", "main", "test"), "[-100:]"),
        ("hf://owner/name@train[:1.5%]", ("hf://owner/name", "", "", "train"), "[:1.5%]"),
    ],
)
def test_addresses(text: str, address: tuple[str, ...], rows: str) -> None:
    found, part = parse_address(text)
    assert (found, str(part)) == (SourceAddress(*address), rows)


@pytest.mark.parametrize("text", ["hf://a/b/c/d", "hf://a//c", "rows.jsonl[1.5:3]"])
def test_malformed_addresses_are_refused(text: str) -> None:
    with pytest.raises(pydantic.ValidationError, match="write"):
        DataConfig(source=text)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [(("", "10"), (0, 10)), (("-10", ""), (190, None)), (("25%", "50%"), (50, 100)), (("", "900"), (0, 900))],
)
def test_slices(bounds: tuple[str, str], expected: tuple[int, int | None]) -> None:
    assert RowSlice(*bounds).bounds(200) == expected
    assert RowSlice("50", "").bounds(None, most=7) == (50, 57)


def test_a_mapping_is_not_applied_to_the_general_source(tmp_path: Path, run: Prepare) -> None:
    general = _write(tmp_path / "general.jsonl", pairs(20, first=900))
    source = _write(tmp_path / "mine.jsonl", _questions(60))
    held_out = _write(tmp_path / "held-out.jsonl", _questions(20, first=300))
    columns = {"prompt": "problem", "completion": "worked"}
    report = run(source, eval_source=held_out, general_source=general, columns=columns)
    assert (report.rows.train, report.rows.eval, report.general and report.general.rows) == (60, 20, 20)
    assert [one.columns for one in report.sources] == [
        columns,
        columns,
        {"prompt": "prompt", "completion": "completion"},
    ]


def test_each_source_has_its_own_settings(tmp_path: Path, tokenizer_folder: Path, run: Prepare) -> None:
    """A mapping, a file format, an encoding and a slice for each; the general source, too."""
    (tmp_path / "b.dat").write_bytes(
        "prompt,completion\n".encode("cp1252") + "Wo ist das Caf\u00e9?,Dort\n".encode("cp1252")
    )
    sources = [
        _write(tmp_path / "a.jsonl", pairs(50)),
        {"source": str(tmp_path / "b.dat"), "format": "csv", "encoding": "cp1252"},
        {
            "source": _write(tmp_path / "c.jsonl", _questions(40, first=500)) + "[:25%]",
            "columns": {"prompt": "problem", "completion": "worked"},
        },
        {"source": _write(tmp_path / "d.jsonl", pairs(30, first=700)), "max_rows": 4},
    ]
    general = {
        "source": _write(tmp_path / "g.jsonl", _questions(30, first=800)) + "[-5:]",
        "columns": {"prompt": "problem", "completion": "worked"},
    }
    report = run(json.dumps(sources), general_source=general)
    assert report.rows.read == 50 + 1 + 10 + 4
    assert report.general is not None
    assert report.general.rows == 5
    assert [one.rows for one in report.sources] == [50, 1, 10, 4, 5]
    rows = [row for file in (TRAIN_ROWS, EVAL_ROWS) for row in read_rows(tmp_path / "out" / file)]
    assert sum(_says(row, "Caf\u00e9") for row in rows) == 1
    assert _lines(tmp_path, GENERAL_ROWS) == [26, 27, 28, 29, 30]


def _says(row: Row, text: str) -> bool:
    return any(text in (turn["content"] or "") for turn in row.messages or [])


def test_train_and_eval_from_slices_of_one_file(tmp_path: Path, run: Prepare) -> None:
    file = _write(tmp_path / "all.jsonl", pairs(200))
    run(f"{file}[:80%]", eval_source=f"{file}[90%:]")
    assert _lines(tmp_path, TRAIN_ROWS) == list(range(1, 161))
    assert _lines(tmp_path, EVAL_ROWS) == list(range(181, 201))


def test_max_rows_caps_every_source_to_train_on(tmp_path: Path, run: Prepare) -> None:
    file, other = _write(tmp_path / "all.jsonl", pairs(200)), _write(tmp_path / "b.jsonl", pairs(200, first=500))
    report = run(json.dumps([f"{file}[100:]", other]), max_rows=60)
    assert report.rows.read == 120
    assert set(_lines(tmp_path, TRAIN_ROWS, EVAL_ROWS)) == {*range(101, 161), *range(1, 61)}
    report = run(file, eval_source=f"{other}[:20%]", max_rows=60)
    assert (report.rows.train, report.rows.eval) == (60, 40)


def test_slices_and_configurations_of_the_hub(tmp_path: Path, run: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    # `datasets` reads a folder of that name in the working directory as it does a repository of the Hub.
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    _write(tmp_path / "owner" / "name" / "train.jsonl", pairs(150))
    _write(tmp_path / "owner" / "name" / "test.jsonl", pairs(50, first=150))
    (tmp_path / "owner" / "name" / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: train.jsonl\n"
        "  - split: test\n    path: test.jsonl\n---\n"
    )
    run("hf://owner/name/main@train[10%:100]", eval_source="hf://owner/name/main@test[-10:]")
    assert _lines(tmp_path, TRAIN_ROWS) == list(range(16, 101))
    assert _lines(tmp_path, EVAL_ROWS) == list(range(41, 51))
    run("hf://owner/name", split="train[:20%]", eval_source="hf://owner/name")
    assert _lines(tmp_path, TRAIN_ROWS) == list(range(1, 31))
    with pytest.raises(
        ConfigurationError, match=r"encoding = 'cp1252' has no effect on data\.source = 'hf://owner/name'"
    ):
        run("hf://owner/name", encoding="cp1252")


def test_an_empty_slice_names_itself(tmp_path: Path, run: Prepare) -> None:
    file = _write(tmp_path / "all.jsonl", pairs(20))
    with pytest.raises(DatasetError, match=r"all\.jsonl\[50:\]' has no rows"):
        run(f"{file}[50:]")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": [{"source": "a.jsonl", "colums": {}}]}, "colums"),
        ({"source": [{"source": "a.jsonl", "encoding": "utf-99"}]}, "no such encoding"),
        ({"source": ["a.jsonl"], "revision": "main"}, "revision = 'main' has no effect"),
        ({"source": "a.jsonl", "encoding": "utf-99"}, "no such encoding"),
        ({"source": "hf://o/n/main@test", "subset": "other"}, "another"),
        ({"source": "[a.jsonl"}, "neither an address nor the JSON"),
    ],
)
def test_mistakes_in_sources_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        DataConfig(**settings)


def test_several_sources_travel_as_one_parameter() -> None:
    """A form of KFP has a text field for them, which holds JSON."""
    entry = {"source": "b.csv[:10]", "columns": {"prompt": "q", "completion": "a"}, "max_rows": 3}
    recipe = Recipe.checked(
        {"data": {"source": ["a.jsonl", entry]}, "model": {"source": "m"}, "registry": {"model_name": "n"}}
    )
    parameters = recipe.parameters()
    assert isinstance(parameters["data_source"], str)
    assert Recipe.from_parameters(parameters) == recipe
    assert recipe.data.names() == "a.jsonl, b.csv[:10]"
    assert (
        Recipe.checked(
            {"data": {"source": "a.jsonl"}, "model": {"source": "m"}, "registry": {"model_name": "n"}}
        ).parameters()["data_source"]
        == "a.jsonl"
    )


def test_every_source_is_pinned(tmp_path: Path) -> None:
    a, b = _write(tmp_path / "a.jsonl", pairs(3)), _write(tmp_path / "b.jsonl", pairs(3, first=5))
    config = DataConfig(source=[f"{a}[:2]", {"source": b}], general_source="builtin:dates-general")
    revisions, digest = pin_datasets(config.addresses())
    assert set(revisions) == {"source[0]", "source[1]", "general_source"}
    _write(tmp_path / "b.jsonl", pairs(4))
    assert pin_datasets(config.addresses())[1] != digest
    pinned = config.pinned({"source[1]": "c" * 40, "general_source": "d"})
    assert (pinned.revisions(), pinned.general_revision) == ("c" * 40, "d")
    assert DataConfig.model_validate_json(pinned.model_dump_json()) == pinned


def test_weights(tmp_path: Path, run: Prepare) -> None:
    """A weight is how often a source's rows are trained on; a fraction takes a part of them, by a hash."""
    sources = [
        {"source": _write(tmp_path / "a.jsonl", pairs(100)), "weight": 2.5},
        {"source": _write(tmp_path / "b.jsonl", pairs(400, first=500)), "weight": 0.25},
        {"source": _write(tmp_path / "c.jsonl", pairs(50, first=2000))},
    ]
    report = run(json.dumps(sources), eval_source=_write(tmp_path / "e.jsonl", pairs(20, first=3000)))
    copies: dict[str, list[int]] = {"a": [], "b": [], "c": [], "e": []}
    for row in (row for file in (TRAIN_ROWS, EVAL_ROWS) for row in read_rows(tmp_path / "out" / file)):
        copies[Path(row.origin.rpartition(":")[0]).stem].append(row.copies)
    assert set(copies["a"]) == {2, 3}
    assert 220 < sum(copies["a"]) < 280
    assert set(copies["b"]) == {1}
    assert 70 < len(copies["b"]) < 130
    assert copies["c"] == [1] * 50
    assert copies["e"] == [1] * 20
    assert report.rows.left_out == 400 - len(copies["b"])
    assert report.rows.train == 150 + len(copies["b"])
    (note,) = report.notes
    assert note.kind == f"weight 0.25 of {tmp_path / 'b.jsonl'}"
    assert [one.weight for one in report.sources] == [2.5, 0.25, 1.0, 1.0]


def test_a_weight_of_rows_that_are_not_trained_on_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match=r"weight 2\.0 of 'b\.jsonl' has no effect"):
        DataConfig(source="a.jsonl", eval_source={"source": "b.jsonl", "weight": 2})
