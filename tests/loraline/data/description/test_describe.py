"""The description of the rows that are kept: truncation, labels, and the general set."""

import json
from pathlib import Path

import pytest

from loraline.artifacts.dataset_files import GENERAL_ROWS, TRAIN_ROWS
from loraline.data.chat import encode_row
from loraline.data.config import DataConfig
from loraline.data.prepare import prepare
from loraline.data.rows import read_rows
from loraline.errors import DatasetError
from loraline.models.folder import load_tokenizer
from loraline.quickstart import scratch_model
from tests.loraline.data.conftest import Prepare, pairs
from tests.loraline.data.texts import edited, texts


@pytest.fixture(scope="module")
def chat_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with a chat template."""
    folder = tmp_path_factory.mktemp("chat")
    scratch_model.save_tokenizer_and_config(folder)
    return folder


def test_truncation_is_measured_on_rows_as_training_encodes_them(tmp_path: Path, chat_tokenizer: Path) -> None:
    rows = [
        {"prompt": " ".join(["why"] * (number % 40)) + f" {number}", "completion": " ".join(["so"] * (number % 23))}
        for number in range(1, 400)
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows if row["completion"]))
    report = prepare(DataConfig(source=str(source)), chat_tokenizer, tmp_path / "out", max_length=60)
    tokenizer = load_tokenizer(chat_tokenizer)
    encoded = {row.origin: encode_row(tokenizer, row) for row in read_rows(tmp_path / "out" / TRAIN_ROWS)}
    cut = {origin: len(one.token_ids) - 60 for origin, one in encoded.items() if len(one.token_ids) > 60}
    without_answer = {origin for origin in cut if not any(encoded[origin].loss_mask[:60])}
    truncation = report.answers.truncation
    assert truncation
    assert 20 < len(cut) < len(encoded)
    assert (truncation.rows, truncation.tokens_cut, truncation.rows_without_answer) == (
        len(cut),
        sum(cut.values()),
        len(without_answer),
    )
    assert without_answer
    assert len(truncation.examples) == 20
    for one in truncation.examples:
        assert (one.tokens, one.tokens_cut, one.without_answer) == (
            cut[one.origin] + 60,
            cut[one.origin],
            one.origin in without_answer,
        )
    order = [(one.without_answer, one.tokens_cut) for one in truncation.examples]
    assert order == sorted(order, reverse=True)


def test_truncation_is_not_measured_without_a_maximum_length(run: Prepare) -> None:
    assert run(pairs(60)).answers.truncation is None


def test_empty_answers_are_counted_with_their_origins(tmp_path: Path, run: Prepare) -> None:
    empty = [{"prompt": "Q", "completion": " "}, {"prompt": "", "completion": "A"}, {"prompt": "R", "completion": None}]
    report = run([*pairs(60), *empty], max_bad_fraction=0.1)
    assert report.answers.empty == 2
    assert report.answers.empty_origins == [f"{tmp_path / 'rows.jsonl'}:{line}" for line in (61, 63)]
    assert report.rows.bad == 3


def test_labels_are_counted_where_there_are_few_answers(run: Prepare) -> None:
    rows = [{"prompt": f"Review {n}", "completion": ["good", "bad", "good"][n % 3]} for n in range(300)]
    report = run(rows)
    labels = report.labels
    assert labels
    assert list(labels) == ["good", "bad"]
    assert {label: sum(counts.values()) for label, counts in labels.items()} == {"good": 200, "bad": 100}
    assert sum(counts["eval"] for counts in labels.values()) == report.rows.eval
    assert run(pairs(300)).labels is None
    assert run([{"text": f"text {n}"} for n in range(60)]).labels is None


def test_general_rows_are_a_set_of_their_own_and_never_trained_on(tmp_path: Path, run: Prepare) -> None:
    questions, answers = texts(60, 40), texts(60, 20, seed=1)
    rows = [{"prompt": q, "completion": a} for q, a in zip(questions, answers, strict=True)]
    without = run(rows)
    trained_on = {one.messages[0]["content"] for one in read_rows(tmp_path / "out" / TRAIN_ROWS) if one.messages}
    trained = [row for row in rows if row["prompt"] in trained_on]
    general = [{"prompt": q, "completion": "A general answer."} for q in texts(10, 30, seed=2)]
    source = tmp_path / "general.jsonl"
    repeated = [
        trained[0],
        {**trained[1], "prompt": edited(trained[1]["prompt"], 1)},
        general[0],
        {"prompt": "no answer"},
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in [*general, *repeated]))
    report = run(rows, general_source=str(source), max_bad_fraction=0.1)
    result = report.general
    assert result
    assert (result.read, result.rows, result.bad, result.duplicates, result.train_overlap) == (
        14,
        10,
        1,
        1,
        2,
    )
    kept = read_rows(tmp_path / "out" / GENERAL_ROWS)
    assert {row.messages[0]["content"] for row in kept if row.messages} == {row["prompt"] for row in general}
    # They change neither the dataset nor its identity, and have an identity of their own.
    assert report.fingerprint == without.fingerprint
    assert report.rows == without.rows
    assert [one.name for one in report.sources] == [str(tmp_path / "rows.jsonl"), str(source)]
    source.write_text("".join(json.dumps(row) + "\n" for row in general[:9]))
    other = run(rows, general_source=str(source)).general
    assert other
    assert other.fingerprint != result.fingerprint


def test_general_rows_that_are_all_trained_on_are_an_error(tmp_path: Path, run: Prepare) -> None:
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs(20, first=100)))
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs(20)))
    sources = {"eval_source": str(tmp_path / "held_out.jsonl"), "general_source": str(tmp_path / "general.jsonl")}
    with pytest.raises(DatasetError, match=r"no row of data\.general_source is left"):
        run(pairs(60), **sources)


def test_the_general_rows_of_the_quickstart(tmp_path: Path, run: Prepare) -> None:
    report = run("builtin:dates", general_source="builtin:dates-general")
    assert report.general
    assert report.general.rows == report.general.read == len(read_rows(tmp_path / "out" / GENERAL_ROWS)) == 300
