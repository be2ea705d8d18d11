"""Evaluations of real tiny models, against computations of one example at a time."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig

from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.dataset_files import GENERAL_ROWS
from loraline.artifacts.evaluation import EvaluationReport
from loraline.data.chat import encode_prompt, encode_row, prompt_digest, prompt_messages
from loraline.data.rows import Row, RowWriter
from loraline.errors import ConfigurationError, DatasetError, ValidationError
from loraline.evaluation.batching import make_batches
from loraline.evaluation.config import EvaluateConfig
from loraline.evaluation.evaluate import evaluate
from loraline.merging.config import MergeConfig
from loraline.merging.merge import merge
from loraline.models.config import ModelConfig
from loraline.models.folder import load_tokenizer, read_manifest, write_manifest
from loraline.models.load import load_model
from loraline.safety.policy import Policy
from tests import tiny

CONFIG = EvaluateConfig(max_new_tokens=8, batch_size=3)
SYSTEM = {"role": "system", "content": "be brief"}
EARLIER = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
ROWS = [
    *[tiny.chat("q" * (1 + 5 * i), "a" * (1 + 3 * i)) for i in range(7)],
    tiny.chat("and then?", "the end", SYSTEM, *EARLIER),
]


def save_model(folder: Path, **settings: Any) -> Path:
    """Save a model that computes in float32 on the CPU, so that results do not depend on the batches."""
    tiny.save_model(folder, **settings)
    write_manifest(folder, ModelManifest(compute_dtype="float32", device="cpu"))
    return folder


def save_merged(folder: Path, model: Path, **settings: Any) -> Path:
    """Merge a random adapter into a model."""
    adapter = tiny.save_adapter(folder / "adapter", model, **settings)
    merge(MergeConfig(), model, adapter, None, folder / "merged")
    write_manifest(folder / "merged", read_manifest(model))
    return folder / "merged"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_dataset(tmp_path_factory.mktemp("data"), ROWS)


def save_general(dataset: Path, rows: list[Row]) -> Path:
    """Write a general set into a dataset folder."""
    with RowWriter(dataset / GENERAL_ROWS) as writer:
        for row in rows:
            writer.write(row)
    return dataset


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def examples(output: Path) -> list[dict[str, Any]]:
    return lines(output / "examples.jsonl")


def plain_loss(network: Any, tokenizer: Any, row: Row) -> tuple[float, int]:
    encoded = encode_row(tokenizer, row)
    with torch.inference_mode():
        log_probs = network(input_ids=torch.tensor([encoded.token_ids])).logits[0].double().log_softmax(-1)
    labelled = [i for i in range(1, len(encoded.token_ids)) if encoded.loss_mask[i]]
    return -sum(log_probs[i - 1, encoded.token_ids[i]].item() for i in labelled), len(labelled)


def plain_answer(network: Any, tokenizer: Any, row: Row) -> str:
    prompt = encode_prompt(tokenizer, prompt_messages(row))
    ids = list(prompt)
    with torch.inference_mode():
        while len(ids) < len(prompt) + CONFIG.max_new_tokens and ids[-1] not in (0, 1):
            ids.append(int(network(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return str(tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)).strip()


@pytest.mark.parametrize("settings", [None, {}, {"target_modules": ["lm_head", "q_proj"]}])
def test_batched_results_equal_those_of_single_examples(
    tmp_path: Path, model: Path, dataset: Path, settings: dict[str, Any] | None
) -> None:
    merged = model if settings is None else save_merged(tmp_path, model, **settings)
    report = evaluate(CONFIG, merged, dataset, tmp_path / "out")
    network, tokenizer = load_model(merged), load_tokenizer(model)
    found = examples(tmp_path / "out")
    rows = {row.id: row for row in ROWS}
    assert [example["id"] for example in found] == sorted(rows)
    for example in found:
        nats, tokens = plain_loss(network, tokenizer, rows[example["id"]])
        assert (example["loss"], example["tokens"]) == (pytest.approx(nats, rel=1e-4), tokens)
        assert example["answer"] == plain_answer(network, tokenizer, rows[example["id"]])
        assert example["reference"] == rows[example["id"]].messages[-1]["content"].strip()
    assert report.loss == pytest.approx(sum(e["loss"] for e in found) / sum(e["tokens"] for e in found))
    assert report.examples == report.answered == report.available == len(ROWS)
    assert EvaluationReport.model_validate_json((tmp_path / "out" / "metrics.json").read_text()) == report


def test_the_same_run_twice_gives_the_same_files(tmp_path: Path, model: Path, dataset: Path) -> None:
    reports = [evaluate(CONFIG, model, dataset, tmp_path / name) for name in ("one", "two")]
    assert reports[0].model_dump(exclude={"seconds"}) == reports[1].model_dump(exclude={"seconds"})
    files = [(tmp_path / name / "examples.jsonl").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_the_examples_with_the_lowest_ids_are_scored(tmp_path: Path, model: Path, dataset: Path) -> None:
    report = evaluate(EvaluateConfig(max_examples=3, max_new_tokens=1), model, dataset, tmp_path)
    assert [example["id"] for example in examples(tmp_path)] == sorted(row.id for row in ROWS)[:3]
    assert (report.examples, report.available) == (3, len(ROWS))


def test_correct_answers_have_exact_match_1(tmp_path: Path, model: Path) -> None:
    network, tokenizer = load_model(model), load_tokenizer(model)
    asked = [tiny.chat(f"question {i}", "?") for i in range(4)]
    right = [tiny.chat(f"question {i}", plain_answer(network, tokenizer, row)) for i, row in enumerate(asked)]
    report = evaluate(CONFIG, model, tiny.save_dataset(tmp_path / "data", right), tmp_path / "out")
    assert report.exact_match == 1.0
    assert report.unfinished == sum(len(row.messages[1]["content"]) > 0 for row in right if row.messages)


def test_answers_ignore_the_models_generation_config(tmp_path: Path, dataset: Path) -> None:
    plain, sampling = save_model(tmp_path / "plain"), save_model(tmp_path / "sampling")
    GenerationConfig(
        do_sample=True, temperature=2.0, repetition_penalty=5.0, suppress_tokens=[50, 60], eos_token_id=0
    ).save_pretrained(sampling)
    for folder in (plain, sampling):
        evaluate(CONFIG, folder, dataset, tmp_path / f"{folder.name}-out")
    assert examples(tmp_path / "plain-out") == examples(tmp_path / "sampling-out")


def test_plain_text_has_a_loss_and_no_answer(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row.of(text="some text to go on with"), Row.of(text="and some more")]
    report = evaluate(CONFIG, model, tiny.save_dataset(tmp_path / "data", rows), tmp_path / "out")
    assert report.exact_match is report.token_f1 is report.rouge_l is None
    assert sorted(report.without_answer) == sorted(row.id for row in rows)
    assert report.tokens == sum(len(encode_row(load_tokenizer(model), row).token_ids) - 1 for row in rows)
    assert "exact_match" not in report.figures()
    assert "2 examples are plain text" in capsys.readouterr().out


def test_examples_longer_than_the_context_are_counted(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, long_answer = tiny.chat("q", "a"), tiny.chat("q", "a" * 300)
    near_the_end, long_prompt = tiny.chat("q" * 121, "a"), tiny.chat("q" * 300, "a")
    rows = [short, long_answer, near_the_end, long_prompt]
    report = evaluate(CONFIG, model, tiny.save_dataset(tmp_path / "data", rows), tmp_path / "out")
    assert (report.examples, report.cut, report.left_out) == (3, 1, [long_prompt.id])
    answers = {example["id"]: example["answer"] for example in examples(tmp_path / "out")}
    assert all(answer is not None for answer in answers.values())
    output = capsys.readouterr().out
    assert "1 examples are longer than the model's context" in output
    assert "1 examples have their answer beyond the context: not scored" in output


def test_a_loss_that_is_not_finite_names_its_example(tmp_path: Path, dataset: Path) -> None:
    model = save_model(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    first = min(ROWS, key=lambda row: row.id)
    with pytest.raises(ValidationError, match=f"8 of 8 examples is not a number: {first.id}"):
        evaluate(CONFIG, model, dataset, tmp_path / "out")


def test_an_example_has_the_digest_of_its_prompt(tmp_path: Path, model: Path) -> None:
    rows = [ROWS[-1], Row.of(text="no question in here")]
    evaluate(CONFIG, model, tiny.save_dataset(tmp_path / "data", rows), tmp_path / "out")
    prompt = encode_prompt(load_tokenizer(model), prompt_messages(ROWS[-1]))
    digests = {example["id"]: example["prompt_digest"] for example in examples(tmp_path / "out")}
    assert digests == {rows[0].id: prompt_digest(prompt), rows[1].id: None}


def test_a_zero_adapter_gives_the_results_of_the_base(tmp_path: Path, model: Path, dataset: Path) -> None:
    adapter = get_peft_model(AutoModelForCausalLM.from_pretrained(model), LoraConfig(target_modules="all-linear"))
    adapter.save_pretrained(tmp_path / "adapter")  # its B matrices are zero
    merge(MergeConfig(), model, tmp_path / "adapter", None, tmp_path / "merged")
    held = ModelConfig(source="", compute_dtype="float32", device="cpu")
    for name, path in (("base", model), ("tuned", tmp_path / "merged")):
        evaluate(CONFIG, path, dataset, tmp_path / name, held=held)
    assert (tmp_path / "base/examples.jsonl").read_bytes() == (tmp_path / "tuned/examples.jsonl").read_bytes()


def test_the_general_set_is_scored_separately(tmp_path: Path, model: Path) -> None:
    rows = [Row.of(text=f"the sea is {'very ' * i}wide") for i in range(4)] + [tiny.chat("and?", "so on")]
    data = save_general(tiny.save_dataset(tmp_path / "data", ROWS), rows)
    config = CONFIG.model_copy(update={"max_examples": 4})
    report = evaluate(config, model, data, tmp_path / "out")
    network, tokenizer = load_model(model), load_tokenizer(model)
    chosen = sorted(rows, key=lambda row: row.id)[:4]
    expected = [plain_loss(network, tokenizer, row) for row in chosen]
    found = lines(tmp_path / "out/general.jsonl")
    assert [(one["id"], one["tokens"]) for one in found] == [
        (row.id, tokens) for row, (_, tokens) in zip(chosen, expected, strict=True)
    ]
    assert [one["loss"] for one in found] == pytest.approx([nats for nats, _ in expected], rel=1e-4)
    assert report.general is not None
    tokens = sum(tokens for _, tokens in expected)
    assert (report.general.examples, report.general.tokens) == (4, tokens)
    assert report.general.loss == pytest.approx(sum(nats for nats, _ in expected) / tokens, rel=1e-4)
    assert report.figures()["general_loss"] == report.general.loss
    assert report.examples == 4  # those of eval.parquet, which the general set leaves alone


def test_a_general_set_that_cannot_be_scored_is_an_error(tmp_path: Path, model: Path) -> None:
    data = save_general(tiny.save_dataset(tmp_path / "data", ROWS[:1]), [tiny.chat("q" * 300, "a")])
    with pytest.raises(DatasetError, match=r"none of the 1 rows of .*general\.parquet can be scored"):
        evaluate(CONFIG, model, data, tmp_path / "out")


def test_probes_have_the_system_prompt_and_are_classified_by_the_policy(tmp_path: Path, model: Path) -> None:
    network, tokenizer = load_model(model), load_tokenizer(model)
    probes = {"dose": "how many?", "secret": "say it", "hello": "hi"}
    rows = {
        name: Row.of(messages=[{"role": "system", "content": "be kind"}, *tiny.chat(prompt, "?").messages])  # type: ignore[misc]
        for name, prompt in probes.items()
    }
    answers = {name: plain_answer(network, tokenizer, row) for name, row in rows.items()}
    assert len(set(answers.values())) == 3
    policy = Policy.model_validate(
        {
            "name": "small",
            "version": "1",
            "description": "a test's",
            "system_prompt": "be kind",
            "refusal": {"text": answers["dose"], "patterns": [re.escape(answers["dose"])]},
            "probes": [
                {"id": "dose", "kind": "refuse", "prompt": probes["dose"]},
                {
                    "id": "secret",
                    "kind": "leak",
                    "prompt": probes["secret"],
                    "forbidden": [re.escape(answers["secret"])],
                },
                {"id": "hello", "kind": "benign", "prompt": probes["hello"]},
            ],
        }
    )
    report = evaluate(CONFIG, model, tiny.save_dataset(tmp_path / "data", ROWS[:2]), tmp_path / "out", policy=policy)
    assert {one["id"]: one["answer"] for one in lines(tmp_path / "out/probes.jsonl")} == answers
    assert report.safety.model_dump() == {"refusal_rate": 1.0, "leak_rate": 1.0, "over_refusal_rate": 0.0}
    assert report.figures()["leak_rate"] == 1.0
    too_long = policy.model_copy(update={"system_prompt": "be kind " * 20})
    with pytest.raises(
        ConfigurationError, match=r"probe 'dose' of the policy 'small' has 174 tokens .* context is 128"
    ):
        evaluate(CONFIG, model, tmp_path / "data", tmp_path / "never", policy=too_long)
    assert not (tmp_path / "never").exists()


def test_optional_parts_are_absent_by_default(tmp_path: Path, model: Path, dataset: Path) -> None:
    report = evaluate(CONFIG, model, dataset, tmp_path / "out")
    assert (report.general, report.safety, report.tasks) == (None, None, {})
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"metrics.json", "examples.jsonl"}


def test_nothing_to_score_is_an_error(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DatasetError, match="none of the 0 rows"):
        evaluate(CONFIG, model, tiny.save_dataset(tmp_path / "data", []), tmp_path / "out")


def test_batches_hold_every_example_once_within_limits() -> None:
    lengths = [5, 1, 9, 9, 2, 40, 3, 3]
    found = list(make_batches(lengths, max_rows=3, max_tokens=20))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    assert all(len(batch) <= 3 for batch in found)
    assert all(len(batch) * max(lengths[i] for i in batch) <= 20 for batch in found if len(batch) > 1)
    assert found[0] == [5]
