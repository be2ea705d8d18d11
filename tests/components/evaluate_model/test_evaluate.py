"""An evaluation of real tiny models, against plain computations one example at a time."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from components.evaluate_model.batches import batches
from components.evaluate_model.config import EvaluateConfig
from components.evaluate_model.evaluate import evaluate
from components.evaluate_model.report import EvaluateReport
from components.shared.chat import encode_prompt, encode_row, split_last_turn
from components.shared.errors import DatasetError, ValidationError
from components.shared.model_folder import ModelManifest, load_tokenizer, write_manifest
from components.shared.models import load_model
from components.shared.rows import Row
from tests import tiny

CONFIG = EvaluateConfig(max_new_tokens=8, batch_size=3)
SYSTEM = {"role": "system", "content": "be brief"}
EARLIER = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
ROWS = [
    *[tiny.chat("q" * (1 + 5 * i), "a" * (1 + 3 * i)) for i in range(7)],
    tiny.chat("and then?", "the end", SYSTEM, *EARLIER),
]


def save_model(folder: Path, **settings: Any) -> Path:
    """A model that computes in float32 on the CPU, so that batches of any composition give the same."""
    tiny.save_model(folder, **settings)
    write_manifest(folder, ModelManifest(compute_dtype="float32", device="cpu"))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_dataset(tmp_path_factory.mktemp("data"), ROWS)


def examples(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "examples.jsonl").read_text().splitlines()]


def plain_loss(network: Any, tokenizer: Any, row: Row) -> tuple[float, int]:
    encoded = encode_row(tokenizer, row)
    with torch.inference_mode():
        chances = network(input_ids=torch.tensor([encoded.token_ids])).logits[0].double().log_softmax(-1)
    labelled = [i for i in range(1, len(encoded.token_ids)) if encoded.loss_mask[i]]
    return -sum(chances[i - 1, encoded.token_ids[i]].item() for i in labelled), len(labelled)


def plain_answer(network: Any, tokenizer: Any, row: Row) -> str:
    prompt = encode_prompt(tokenizer, split_last_turn(row)[0])
    ids = list(prompt)
    with torch.inference_mode():
        while len(ids) < len(prompt) + CONFIG.max_new_tokens and ids[-1] not in (0, 1):
            ids.append(int(network(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return str(tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)).strip()


@pytest.mark.parametrize("settings", [None, {}, {"target_modules": ["lm_head", "q_proj"]}])
def test_batches_give_what_examples_give_by_themselves(
    tmp_path: Path, model: Path, dataset: Path, settings: dict[str, Any] | None
) -> None:
    adapter = None if settings is None else tiny.save_adapter(tmp_path / "adapter", model, **settings)
    report = evaluate(CONFIG, model, dataset, tmp_path / "out", adapter)
    network, tokenizer = load_model(model, adapter), load_tokenizer(model)
    found = examples(tmp_path / "out")
    rows = {row.id: row for row in ROWS}
    assert [example["id"] for example in found] == sorted(rows)
    for example in found:
        nats, tokens = plain_loss(network, tokenizer, rows[example["id"]])
        assert (example["loss"], example["tokens"]) == (pytest.approx(nats, rel=1e-4), tokens)
        assert example["answer"] == plain_answer(network, tokenizer, rows[example["id"]])
        assert example["reference"] == split_last_turn(rows[example["id"]])[1]
    assert report.loss == pytest.approx(sum(e["loss"] for e in found) / sum(e["tokens"] for e in found))
    assert report.examples == report.answered == report.available == len(ROWS)
    assert EvaluateReport.model_validate_json((tmp_path / "out" / "metrics.json").read_text()) == report


def test_the_same_run_twice_gives_the_same_files(tmp_path: Path, model: Path, dataset: Path) -> None:
    reports = [evaluate(CONFIG, model, dataset, tmp_path / name) for name in ("one", "two")]
    assert reports[0].model_dump(exclude={"seconds"}) == reports[1].model_dump(exclude={"seconds"})
    files = [(tmp_path / name / "examples.jsonl").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_those_with_the_lowest_ids_are_scored(tmp_path: Path, model: Path, dataset: Path) -> None:
    report = evaluate(EvaluateConfig(max_examples=3, max_new_tokens=1), model, dataset, tmp_path)
    assert [example["id"] for example in examples(tmp_path)] == sorted(row.id for row in ROWS)[:3]
    assert (report.examples, report.available) == (3, len(ROWS))


def test_a_model_that_answers_right_is_given_full_marks(tmp_path: Path, model: Path) -> None:
    network, tokenizer = load_model(model), load_tokenizer(model)
    asked = [tiny.chat(f"question {i}", "?") for i in range(4)]
    right = [tiny.chat(f"question {i}", plain_answer(network, tokenizer, row)) for i, row in enumerate(asked)]
    report = evaluate(CONFIG, model, tiny.save_dataset(tmp_path / "data", right), tmp_path / "out")
    assert report.exact_match == 1.0
    assert report.unfinished == sum(len(row.messages[1]["content"]) > 0 for row in right if row.messages)


def test_answers_do_not_follow_the_models_sampling_settings(tmp_path: Path, dataset: Path) -> None:
    plain, odd = save_model(tmp_path / "plain"), save_model(tmp_path / "odd")
    GenerationConfig(
        do_sample=True, temperature=2.0, repetition_penalty=5.0, suppress_tokens=[50, 60], eos_token_id=0
    ).save_pretrained(odd)
    for folder in (plain, odd):
        evaluate(CONFIG, folder, dataset, tmp_path / f"{folder.name}-out")
    assert examples(tmp_path / "plain-out") == examples(tmp_path / "odd-out")


def test_plain_text_has_a_loss_and_no_answer(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row.of(text="some text to go on with"), Row.of(text="and some more")]
    report = evaluate(CONFIG, model, tiny.save_dataset(tmp_path / "data", rows), tmp_path / "out")
    assert report.exact_match is report.token_f1 is report.rouge_l is None
    assert sorted(report.without_answer) == sorted(row.id for row in rows)
    assert report.tokens == sum(len(encode_row(load_tokenizer(model), row).token_ids) - 1 for row in rows)
    assert "exact_match" not in report.figures()
    assert "2 examples are plain text" in capsys.readouterr().out


def test_what_does_not_fit_the_context_is_counted(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, long_answer = tiny.chat("q", "a"), tiny.chat("q", "a" * 300)
    near_the_end, long_prompt = tiny.chat("q" * 121, "a"), tiny.chat("q" * 300, "a")
    rows = [short, long_answer, near_the_end, long_prompt]
    report = evaluate(CONFIG, model, tiny.save_dataset(tmp_path / "data", rows), tmp_path / "out")
    assert (report.examples, report.cut, report.left_out) == (3, 1, [long_prompt.id])
    answers = {example["id"]: example["answer"] for example in examples(tmp_path / "out")}
    assert all(answer is not None for answer in answers.values())
    said = capsys.readouterr().out
    assert "1 examples are longer than the model's context" in said
    assert "1 examples have their answer beyond the context: left out" in said


def test_a_loss_that_is_not_a_number_names_its_example(tmp_path: Path, dataset: Path) -> None:
    model = save_model(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    first = min(ROWS, key=lambda row: row.id)
    with pytest.raises(ValidationError, match=f"8 of 8 examples is not a number: {first.id}"):
        evaluate(CONFIG, model, dataset, tmp_path / "out")


def test_nothing_to_score_is_an_error(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DatasetError, match="none of the 0 rows"):
        evaluate(CONFIG, model, tiny.save_dataset(tmp_path / "data", []), tmp_path / "out")


def test_batches_hold_every_example_once_within_bounds() -> None:
    lengths = [5, 1, 9, 9, 2, 40, 3, 3]
    found = list(batches(lengths, max_rows=3, max_tokens=20))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    assert all(len(batch) <= 3 for batch in found)
    assert all(len(batch) * max(lengths[i] for i in batch) <= 20 for batch in found if len(batch) > 1)
    assert found[0] == [5]
