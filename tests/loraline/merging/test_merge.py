"""The merge against PEFT's merge_and_unload, on several kinds of adapters and bases."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, PretrainedConfig

from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.merging import MergeReport
from loraline.errors import AdapterError, DatasetError, ModelLoadingError
from loraline.merging.config import MergeConfig
from loraline.merging.merge import merge
from loraline.models.folder import write_manifest
from tests import tiny

GPT2 = GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.2)
UNTIED = tiny.llama(tie_word_embeddings=False)
TIED = tiny.llama(tie_word_embeddings=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.chat(f"question {i}", "answer " * i) for i in range(4)]
    return tiny.save_dataset(tmp_path_factory.mktemp("data"), rows)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        found |= load_file(file)
    return found


def merged_by_peft(base: Path, adapter: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=dtype), str(adapter))
    return model.merge_and_unload().state_dict()


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.int16 if tensor.element_size() == 2 else torch.int32)


@pytest.mark.parametrize(
    ("config", "dtype", "settings"),
    [
        (UNTIED, torch.bfloat16, {}),
        (UNTIED, torch.float16, {"use_rslora": True}),
        (UNTIED, torch.bfloat16, {"use_dora": True}),
        (UNTIED, torch.float32, {"use_dora": True, "use_rslora": True, "target_modules": ["q_proj", "down_proj"]}),
        (UNTIED, torch.float32, {"target_modules": ["lm_head", "embed_tokens", "v_proj"]}),
        (TIED, torch.bfloat16, {"target_modules": ["q_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 2}}),
        (GPT2, torch.bfloat16, {"fan_in_fan_out": True}),
        (GPT2, torch.float32, {"use_dora": True, "fan_in_fan_out": True, "target_modules": ["c_attn", "c_proj"]}),
    ],
    ids=["lora", "rslora", "dora", "dora-f32", "head-and-embedding", "tied", "conv1d", "conv1d-dora"],
)
def test_merged_weights_equal_those_of_merge_and_unload(
    tmp_path: Path, dataset: Path, config: PretrainedConfig, dtype: torch.dtype, settings: dict[str, Any]
) -> None:
    base = tiny.save_model(tmp_path / "base", config, dtype)
    adapter = tiny.save_adapter(tmp_path / "adapter", base, **settings)
    report = merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")
    expected = merged_by_peft(base, adapter, dtype)
    before, after = weights(base), weights(tmp_path / "merged")
    assert after.keys() == before.keys()
    changed = [name for name in after if not torch.equal(after[name], before[name])]
    assert len(changed) == report.merged_tensors
    for name, tensor in after.items():
        assert tensor.dtype == dtype
        # Stochastic rounding takes one of the two neighbours, rounding to nearest the nearer.
        apart = (bits(tensor).long() - bits(expected[name]).long()).abs()
        assert (apart > (dtype != torch.float32)).sum() <= 0.001 * tensor.numel(), name
    assert report.max_abs_logit_difference < 0.1 * report.max_adapter_effect


def test_shards_and_unchanged_weights_are_those_of_the_base(tmp_path: Path, dataset: Path) -> None:
    base = tiny.save_model(tmp_path / "base", dtype=torch.bfloat16, max_shard_size="30KB")
    shards = sorted(file.name for file in base.glob("*.safetensors"))
    assert len(shards) > 2
    adapter = tiny.save_adapter(tmp_path / "adapter", base, target_modules=["q_proj"])
    merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")
    assert sorted(file.name for file in (tmp_path / "merged").glob("*.safetensors")) == shards
    before, after = weights(base), weights(tmp_path / "merged")
    assert {name for name in after if not torch.equal(after[name], before[name])} == {
        f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)
    }


def digests(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.name != "parity.json"
    }


def test_merging_twice_equals_merging_once(tmp_path: Path, dataset: Path) -> None:
    base = tiny.save_model(tmp_path / "base", dtype=torch.bfloat16)
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    untouched = digests(base)
    first = merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")
    once = digests(tmp_path / "merged")
    second = merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")
    assert digests(tmp_path / "merged") == once
    assert first.model_dump(exclude={"seconds"}) == second.model_dump(exclude={"seconds"})
    assert digests(base) == untouched


def test_the_folder_loads_with_transformers(tmp_path: Path, dataset: Path) -> None:
    base = tiny.save_model(tmp_path / "base", dtype=torch.bfloat16)
    (base / "README.md").write_text("the base's card")
    (base / "pytorch_model.bin").write_bytes(b"other weights")
    write_manifest(base, ModelManifest(digest="d" * 64, device="cpu"))
    adapter = tiny.save_adapter(tmp_path / "adapter", base, base_digest="d" * 64)
    merged = tmp_path / "merged"
    report = merge(MergeConfig(parity_examples=2), base, adapter, dataset, merged)
    assert MergeReport.model_validate_json((merged / "parity.json").read_text()) == report
    assert (report.examples, report.base_digest, report.max_divergence) == (2, "d" * 64, 0.05)
    assert not (merged / "README.md").exists()
    assert not (merged / "pytorch_model.bin").exists()
    assert json.loads((merged / "generation_config.json").read_text())["eos_token_id"] == [0, 1]
    loaded = AutoTokenizer.from_pretrained(merged)
    assert loaded.chat_template == tiny.CHAT_TEMPLATE
    ids = loaded("a question", return_tensors="pt")
    assert AutoModelForCausalLM.from_pretrained(merged).generate(**ids, max_new_tokens=2).shape[0] == 1


def test_weights_stored_without_the_base_model_prefix(tmp_path: Path, dataset: Path) -> None:
    base = tiny.save_model(tmp_path / "base", GPT2)
    adapter = tiny.save_adapter(tmp_path / "adapter", base, fan_in_fan_out=True)
    expected = merged_by_peft(base, adapter, torch.float32)
    stored = weights(base)
    short = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    save_file(short, base / "model.safetensors", {"format": "pt"})  # as GPT-2 itself was published
    merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")
    for name, tensor in weights(tmp_path / "merged").items():
        torch.testing.assert_close(tensor, expected[f"transformer.{name}"], rtol=1e-6, atol=1e-7)


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_without_rows_the_merge_is_the_same_and_parity_is_not_measured(tmp_path: Path, dataset: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    compared = merge(MergeConfig(), base, adapter, dataset, tmp_path / "compared")
    report = merge(MergeConfig(), base, adapter, None, tmp_path / "merged")
    assert report.merged_digest == compared.merged_digest
    assert (report.examples, report.max_abs_logit_difference, report.kl_divergence, report.greedy) == (0, *[None] * 3)
    assert report.prompts == {}
    assert "not measured" in report.headline()
    assert MergeReport.load(tmp_path / "merged") == report


def test_a_different_base_is_detected_by_its_digest(tmp_path: Path, dataset: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    write_manifest(base, ModelManifest(digest="a" * 64))
    adapter = tiny.save_adapter(tmp_path / "adapter", base, base_digest="b" * 64)
    with pytest.raises(AdapterError, match=r"trained on the base with digest b+.* has digest a+"):
        merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (tiny.llama(hidden_size=64), r"q_proj has shape \(32, 32\), and the base's weight \(64, 64\)"),
        (tiny.llama(num_hidden_layers=1), r"the base has no module model\.layers\.1\.mlp\.down_proj"),
        (GPT2, "the base has no module model.layers.0"),
    ],
    ids=["shape", "depth", "family"],
)
def test_a_different_base_is_detected_by_its_shapes(
    tmp_path: Path, dataset: Path, other: PretrainedConfig, reason: str
) -> None:
    adapter = tiny.save_adapter(tmp_path / "adapter", tiny.save_model(tmp_path / "base"))
    with pytest.raises(AdapterError, match=reason):
        merge(MergeConfig(), tiny.save_model(tmp_path / "other", other), adapter, dataset, tmp_path / "merged")
    assert not list((tmp_path / "merged").glob("*.safetensors"))


def test_an_adapter_on_one_side_of_tied_weights_is_refused(tmp_path: Path, dataset: Path) -> None:
    base = tiny.save_model(tmp_path / "base", TIED)
    adapter = tiny.save_adapter(tmp_path / "adapter", base, target_modules=["lm_head"])
    with pytest.raises(AdapterError, match="lm_head shares its weights"):
        merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")


def test_unsupported_peft_settings_are_refused(tmp_path: Path, dataset: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    edit(adapter / "adapter_config.json", bias="all", modules_to_save=["lm_head"])
    with pytest.raises(AdapterError, match=r"modules_to_save=\['lm_head'\], bias='all'"):
        merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")


@pytest.mark.parametrize("named_by", ["bitsandbytes", "nf4"])
def test_a_quantized_base_is_refused(tmp_path: Path, dataset: Path, named_by: str) -> None:
    base = tiny.save_model(tmp_path / "base")
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    if named_by == "nf4":
        write_manifest(base, ModelManifest(quantization="nf4"))
    else:
        edit(base / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(AdapterError, match=rf"is quantized \({named_by}\).* merge into its 16-bit form"):
        merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_an_adapter_with_nan_is_refused(tmp_path: Path, dataset: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    tensors = load_file(adapter / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match="is not finite"):
        merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")


def test_a_truncated_file_is_refused(tmp_path: Path, dataset: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    with (base / "model.safetensors").open("r+b") as file:
        file.truncate(20_000)
    with pytest.raises(ModelLoadingError, match="has 20000 bytes and should have"):
        merge(MergeConfig(), base, adapter, dataset, tmp_path / "merged")


def test_a_merge_beyond_the_threshold_is_written_for_the_gate(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny.save_model(tmp_path / "base", dtype=torch.bfloat16)
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    merge(MergeConfig(max_divergence=1e-9), base, adapter, dataset, tmp_path / "merged")
    parity = json.loads((tmp_path / "merged" / "parity.json").read_text())
    assert parity["kl_divergence"]["mean"] > parity["max_divergence"] * parity["adapter_kl_divergence"]["mean"]
    assert "the merged model differs from the adapter on its base" in capsys.readouterr().out


def test_no_rows_to_compare_on_is_an_error(tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    adapter = tiny.save_adapter(tmp_path / "adapter", base)
    with pytest.raises(DatasetError, match="no rows"):
        merge(MergeConfig(), base, adapter, tiny.save_dataset(tmp_path / "empty", []), tmp_path / "merged")
