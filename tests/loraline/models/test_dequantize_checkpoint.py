"""Bases that are quantized already become ordinary 16-bit ones, equal to what transformers makes of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    FineGrainedFP8Config,
    GptOssConfig,
    LlamaForCausalLM,
    Mxfp4Config,
    PreTrainedModel,
)

from loraline.errors import ModelLoadingError
from loraline.feasibility import check_feasibility
from loraline.models import dequantize_checkpoint as module
from loraline.models.config import ModelConfig
from loraline.models.dequantize_checkpoint import dequantize_checkpoint
from loraline.models.fetch import fetch_base
from loraline.models.quantize import quantize
from loraline.models.safetensors_files import count_parameters
from loraline.models.stored_quantization import quantization_problem
from loraline.training.config import TrainConfig
from tests import tiny

LLAMA = tiny.llama(hidden_size=192, intermediate_size=320, num_key_value_heads=4)
IDS = torch.arange(5, 60)[None]


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().float()(IDS).logits.flatten()


def set_quantization(folder: Path, section: dict[str, Any]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": section}))


def fp8_checkpoint(folder: Path, rows: int, columns: int) -> Path:
    """A Llama whose projections are stored in fp8 with a scale for each block."""
    tiny.save_model(folder, LLAMA, torch.bfloat16)
    stored = load_file(folder / "model.safetensors")
    for name in [name for name in stored if "_proj" in name]:
        weight = stored[name].float()
        grid = [-(-size // block) for size, block in zip(weight.shape, (rows, columns), strict=True)]
        scales = torch.rand(grid) * 2e-3 + 3e-3
        full = scales.repeat_interleave(rows, 0).repeat_interleave(columns, 1)[: weight.shape[0], : weight.shape[1]]
        stored[name] = (weight / full).clamp(-448, 448).to(torch.float8_e4m3fn)
        stored[f"{name}_scale_inv"] = scales
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    set_quantization(
        folder, {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [rows, columns]}
    )
    return folder


def mxfp4_checkpoint(folder: Path) -> Path:
    """A gpt-oss whose experts are blocks of 32 values in 4 bit with a scale of one byte."""
    config = GptOssConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        pad_token_id=0,
        eos_token_id=0,
    )
    tiny.save_model(folder, config, torch.bfloat16)
    stored = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in stored if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inner, outer = stored.pop(name).shape
        blocks = (experts, outer, inner // 32, 16)
        stored[f"{name}_blocks"] = torch.randint(0, 256, blocks, generator=generator, dtype=torch.uint8)
        stored[f"{name}_scales"] = torch.randint(120, 124, blocks[:-1], generator=generator, dtype=torch.uint8)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    set_quantization(folder, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    return folder


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_bitsandbytes_checkpoints_give_what_they_compute(kind: Any, tmp_path: Path) -> None:
    tiny.save_model(tmp_path / "base", dtype=torch.bfloat16)
    quantize(tmp_path / "base", kind, tmp_path / "quantized")
    # transformers' own dequantization; of the loaded layers
    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "quantized", dtype=torch.bfloat16).dequantize()
    assert dequantize_checkpoint(tmp_path / "quantized", "the source") == "bitsandbytes"
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "quantized", dtype=torch.bfloat16)
    weights = found.state_dict()
    for name, weight in reference.state_dict().items():
        torch.testing.assert_close(weights[name], weight.to(torch.bfloat16), rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("blocks", [(64, 64), (64, 32)])
def test_fp8_in_blocks(blocks: tuple[int, int], tmp_path: Path) -> None:
    folder = fp8_checkpoint(tmp_path / "base", *blocks)
    reference = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, quantization_config=FineGrainedFP8Config(dequantize=True)
    )
    assert dequantize_checkpoint(folder, "the source") == "fp8"
    assert torch.equal(logits(LlamaForCausalLM.from_pretrained(folder)), logits(reference))


def test_fp8_blocks_at_the_edge_are_cut(tmp_path: Path) -> None:
    original = tiny.save_model(tmp_path / "original", LLAMA, torch.bfloat16)
    folder = fp8_checkpoint(tmp_path / "base", 128, 128)  # 192 and 320 are no multiples
    dequantize_checkpoint(folder, "the source")
    whole, found = load_file(original / "model.safetensors"), load_file(folder / "model.safetensors")
    assert whole.keys() == found.keys()
    for name, weight in whole.items():
        torch.testing.assert_close(found[name], weight, rtol=2**-3, atol=2e-3)


def test_mxfp4_experts(tmp_path: Path) -> None:
    folder = mxfp4_checkpoint(tmp_path / "base")
    reference = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, quantization_config=Mxfp4Config(dequantize=True)
    )
    assert dequantize_checkpoint(folder, "the source") == "mxfp4"
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(reference))


def test_scales_for_each_row(tmp_path: Path) -> None:
    original = tiny.save_model(tmp_path / "original", dtype=torch.bfloat16)
    folder = tiny.save_model(tmp_path / "base", dtype=torch.bfloat16)
    stored = load_file(folder / "model.safetensors")
    for name in [name for name in stored if "_proj" in name]:
        scales = stored[name].float().abs().amax(1, keepdim=True) / 448
        stored[f"{name}_scale"] = scales
        stored[name] = (stored[name].float() / scales).to(torch.float8_e4m3fn)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    set_quantization(folder, {"quant_method": "compressed-tensors", "format": "float-quantized"})
    dequantize_checkpoint(folder, "the source")
    whole, found = load_file(original / "model.safetensors"), load_file(folder / "model.safetensors")
    assert whole.keys() == found.keys()
    for name, weight in whole.items():
        torch.testing.assert_close(found[name], weight, rtol=2**-3, atol=2e-3)


def test_a_quantized_base_is_fetched_as_a_16_bit_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = fp8_checkpoint(tmp_path / "source", 64, 64)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    monkeypatch.setattr(module, "_SHARD_BYTES", 300_000)
    manifest = fetch_base(ModelConfig(source=str(source), device="cpu"), tmp_path / "base", tmp_path / "quantized")
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert len(list((tmp_path / "base").glob("model-*-of-*.safetensors"))) > 1
    model = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    assert model.dtype == torch.bfloat16
    assert manifest.parameters == count_parameters(tmp_path / "base") == model.num_parameters()
    assert "quantization_config" not in json.loads((tmp_path / "base" / "config.json").read_text())


def test_a_weight_without_its_scale_is_an_error(tmp_path: Path) -> None:
    folder = fp8_checkpoint(tmp_path / "base", 64, 64)
    stored = load_file(folder / "model.safetensors")
    del stored["model.layers.1.mlp.up_proj.weight_scale_inv"]
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadingError, match=r"stores model.layers.1.mlp.up_proj.weight as torch.float8_e4m3fn"):
        dequantize_checkpoint(folder, "the source")
    assert (folder / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, r"compressed-tensors \(pack-quantized\)"),
    ],
)
def test_other_methods_are_refused_with_what_can_be_done(section: dict[str, Any], named: str, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "base")
    set_quantization(folder, section)
    with pytest.raises(ModelLoadingError, match=rf"'the source' .* quantized by {named}.* Take the model"):
        dequantize_checkpoint(folder, "the source")
    assert quantization_problem({"quantization_config": section})
    assert quantization_problem({}) is None


def test_what_can_be_dequantized_is_feasible_and_the_rest_is_refused_before_a_weight_is_read(tmp_path: Path) -> None:
    source = fp8_checkpoint(tmp_path / "fp8", 64, 64)
    assert check_feasibility(ModelConfig(source=str(source)), TrainConfig()).problems == []
    source = tiny.save_model(tmp_path / "awq")
    set_quantization(source, {"quant_method": "awq"})
    found = check_feasibility(ModelConfig(source=str(source)), TrainConfig()).problems
    assert len(found) == 1
    assert "quantized by awq" in found[0]
