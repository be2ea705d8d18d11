"""Divergence of the merged model from the adapter on its base: from rounding alone, and after a wrong merge."""

import json
import shutil
from pathlib import Path
from typing import Literal

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.dataset_files import EVAL_ROWS
from loraline.artifacts.merging import MergeReport
from loraline.data.chat import encode_row, last_prompt
from loraline.data.rows import Row, read_rows
from loraline.merging import merge as merging
from loraline.merging.config import MergeConfig
from loraline.merging.merge import merge
from loraline.models.folder import load_tokenizer, write_manifest
from loraline.models.load import load_model
from loraline.models.quantize import quantize
from tests import tiny

SMALL = tiny.llama(tie_word_embeddings=False, initializer_range=0.1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.chat(f"question {i}", "answer " * (i % 3)) for i in range(6)]
    return tiny.save_dataset(tmp_path_factory.mktemp("data"), [*rows, Row.of(text="plain text to go on with")])


def merged(folder: Path, dataset: Path, dtype: torch.dtype) -> MergeReport:
    base = tiny.save_model(folder / "base", SMALL, dtype)
    adapter = tiny.save_adapter(folder / "adapter", base)
    return merge(MergeConfig(generated_tokens=16), base, adapter, dataset, folder / "merged")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_rounding_alone_stays_far_below_the_thresholds(tmp_path: Path, dataset: Path, dtype: torch.dtype) -> None:
    report = merged(tmp_path, dataset, dtype)
    assert not report.exceeds_thresholds
    assert report.effect_kept == pytest.approx(1, abs=report.max_effect_change / 4)
    mean, high = report.relative_divergences
    assert mean < report.max_divergence / 10
    assert high < report.max_divergence / 10
    assert 0 <= report.kl_divergence.mean <= report.kl_divergence.p99 <= report.kl_divergence.max
    assert report.greedy.examples == 7
    assert report.greedy.equal == 7 or dtype != torch.float32
    assert report.quantized is None
    assert json.loads((tmp_path / "merged" / "parity.json").read_text()) == json.loads(report.model_dump_json())


def test_kl_divergence_equals_torchs(tmp_path: Path, dataset: Path) -> None:
    report = merged(tmp_path, dataset, torch.bfloat16)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    tokenizer = load_tokenizer(tmp_path / "base")
    divergences = []
    for row in read_rows(dataset / EVAL_ROWS):
        ids = torch.tensor([encode_row(tokenizer, row).token_ids])[:, :128]
        with torch.no_grad():
            p, q = (torch.log_softmax(model(ids).logits[0].double(), -1) for model in (adapted, plain))
        divergences += torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1).tolist()
    assert report.positions == len(divergences)
    assert report.kl_divergence.max == pytest.approx(max(divergences), rel=0.01)
    assert report.kl_divergence.mean == pytest.approx(sum(divergences) / len(divergences), rel=0.01)


def test_greedy_report_equals_generating_with_both_models(tmp_path: Path, dataset: Path) -> None:
    report = merged(tmp_path, dataset, torch.float32)
    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), str(tmp_path / "adapter")
    )
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = load_tokenizer(tmp_path / "base")
    tokens = equal = 0
    for row in read_rows(dataset / EVAL_ROWS):
        encoded = encode_row(tokenizer, row)
        whole = encoded.token_ids
        ids = torch.tensor([last_prompt(encoded) if row.messages else whole[: len(whole) // 2]])
        settings = {"do_sample": False, "max_new_tokens": 16, "eos_token_id": [0, 1], "pad_token_id": 0}
        answers = [model.generate(ids, **settings)[0, ids.shape[1] :].tolist() for model in (adapted, plain)]
        tokens += len(answers[0])
        equal += answers[0] == answers[1]
    assert (report.greedy.tokens, report.greedy.equal) == (tokens, equal)


@pytest.mark.parametrize("fault", ["adapter left out", "one layer twice", "alpha of another run"])
def test_a_wrong_merge_exceeds_the_thresholds(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    right = merging._merge_weights

    def wrong(base: Path, adapter: Path, output: Path) -> int:
        other = tmp_path / "other"
        shutil.copytree(adapter, other)
        if fault == "alpha of another run":
            settings = json.loads((other / "adapter_config.json").read_text())
            (other / "adapter_config.json").write_text(json.dumps(settings | {"lora_alpha": 16}))
        else:
            weights = load_file(other / "adapter_model.safetensors")
            for name in weights:
                if "lora_B" in name and (fault == "adapter left out" or "layers.1.mlp" in name):
                    weights[name] *= 0 if fault == "adapter left out" else 2
            save_file(weights, other / "adapter_model.safetensors")
        return right(base, other, output)

    monkeypatch.setattr(merging, "_merge_weights", wrong)
    report = merged(tmp_path, dataset, torch.bfloat16)
    assert report.exceeds_thresholds
    assert abs(report.effect_kept - 1) > 2 * report.max_effect_change


def test_a_merged_model_with_nan_has_null_metrics_and_no_equal_completion(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = merging.write_other_files

    def with_damage(base: Path, output: Path) -> None:
        right(base, output)
        weights = load_file(output / "model.safetensors")
        weights["model.norm.weight"][0] = float("nan")
        save_file(weights, output / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(merging, "write_other_files", with_damage)
    merged(tmp_path, dataset, torch.float32)
    parity = json.loads((tmp_path / "merged" / "parity.json").read_text())
    assert parity["max_abs_logit_difference"] is None
    assert parity["kl_divergence"] == {"mean": None, "p99": None, "max": None}
    assert parity["effect_kept"] is None
    assert parity["greedy"]["equal"] == 0


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_the_effect_of_quantization_is_reported_separately(tmp_path: Path, dataset: Path, kind: str) -> None:
    sized = tiny.llama(tie_word_embeddings=False, initializer_range=0.1, hidden_size=64, intermediate_size=128)
    base = tiny.save_model(tmp_path / "base", sized, torch.bfloat16)
    write_manifest(base, ModelManifest(device="cpu", compute_dtype="float32"))
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    (adapter / "training.json").write_text(json.dumps({"quantization": kind}))
    report = merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")
    assert report.quantized
    assert report.quantized.quantization == kind
    # Merging rounds to 16 bit; training saw 4 or 8.
    assert report.quantized.mean_abs_logit_difference > 2 * report.mean_abs_logit_difference
    assert report.quantized.kl_divergence.max > report.kl_divergence.max
    assert not report.exceeds_thresholds


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_quantizing_while_loading_equals_the_stored_quantized_model(
    tmp_path: Path, kind: Literal["nf4", "int8"]
) -> None:
    base = tiny.save_model(tmp_path / "base", SMALL, torch.bfloat16)
    write_manifest(base, ModelManifest(device="cpu", compute_dtype="float32"))
    quantize(base, kind, tmp_path / "working")
    ids = torch.arange(20)[None]
    stored, made = load_model(tmp_path / "working"), load_model(base, quantization=kind)
    assert torch.equal(stored(input_ids=ids).logits, made(input_ids=ids).logits)
