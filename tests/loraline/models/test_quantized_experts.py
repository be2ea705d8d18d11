"""Experts in NF4: computed from what is packed, trained with gradients, and loaded again with their adapter."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from loraline.models.config import ModelConfig
from loraline.models.experts import expert_parameters
from loraline.models.folder import read_manifest
from loraline.models.load import load_model
from loraline.models.load_base import load_base
from loraline.models.memory_items import MemoryItem, memory_items
from loraline.models.meta_model import build_meta_model
from loraline.models.quantize import quantize
from loraline.models.quantized_experts import expert_weight
from loraline.training.adapter import add_adapter, check_gradients, save_adapter, trainable_parameters
from loraline.training.config import TrainConfig
from tests.families.families import family

TOKENS = torch.arange(30)[None]


@pytest.mark.parametrize("model_type", ["qwen3_moe", "deepseek_v3", "gpt_oss"])
def test_experts_in_nf4_compute_as_their_dequantized_weights(model_type: str, tmp_path: Path) -> None:
    base = family(model_type).save(tmp_path / "base")
    packed: Any = load_base(base, "nf4")
    plain: Any = load_base(base, "nf4", to_save=True)  # linear layers alone
    for name, weight in expert_parameters(plain).items():
        module, _, parameter = name.rpartition(".")
        dequantized = expert_weight(packed.get_submodule(module), parameter)
        assert 0 < (dequantized - weight).abs().mean() < 0.15 * weight.std()
        assert packed.get_parameter(name).untyped_storage().nbytes() == 4  # nothing but its shape
        weight.data = dequantized
    assert torch.allclose(packed(input_ids=TOKENS).logits, plain(input_ids=TOKENS).logits, atol=1e-4)


def test_a_quantized_mixture_trains_and_loads_with_its_adapter(tmp_path: Path) -> None:
    """Also where dense layers and shared experts have names that PEFT takes for those of experts."""
    base, quantized = family("deepseek_v3").save(tmp_path / "base"), tmp_path / "quantized"
    quantize(base, "nf4", quantized)
    assert read_manifest(quantized).quantization == "nf4"
    model = add_adapter(load_base(quantized), TrainConfig(rank=4))
    assert any("mlp.shared_experts.up_proj" in name for name in trainable_parameters(model))
    for name, weight in trainable_parameters(model).items():
        weight.data = torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1
    logits = model(input_ids=TOKENS).logits
    logits.square().mean().backward()
    check_gradients(model)
    save_adapter(model, tmp_path / "adapter")
    loaded = load_model(quantized, tmp_path / "adapter")
    assert torch.allclose(loaded(input_ids=TOKENS).logits, logits, atol=1e-4)
    on_base = load_model(base, tmp_path / "adapter")(input_ids=TOKENS).logits
    assert (on_base - logits).abs().mean() < 0.5 * logits.std()  # the same adapter, on a base that is not rounded


def test_other_experts_stay_as_they_are_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = family("llama4_text").save(tmp_path / "base")
    base: Any = load_base(folder, "nf4")
    assert all(torch.isfinite(weight).all() for weight in expert_parameters(base).values())
    quantize(folder, "nf4", tmp_path / "quantized")
    kept = sum(weight.numel() for weight in expert_parameters(base).values())
    assert f"{kept:,} weights of routed experts stay in float32: their layer computes" in capsys.readouterr().out


def test_the_plan_counts_experts_in_the_type_that_they_are_held_in(tmp_path: Path) -> None:
    def weights(model_type: str, quantization: Literal["none", "int8", "nf4"]) -> MemoryItem:
        model = build_meta_model(family(model_type).save(tmp_path / model_type), "", torch.bfloat16)
        config = ModelConfig(source="", quantization=quantization)
        return memory_items(model, config, TrainConfig(rank=4).footprint())[0]

    saved = weights("qwen3_moe", "int8").size - weights("qwen3_moe", "nf4").size
    network = build_meta_model(tmp_path / "qwen3_moe", "")
    experts = sum(weight.numel() for weight in expert_parameters(network).values())
    assert saved > experts
    assert "linear layers and experts in nf4, bfloat16 for the rest" in weights("qwen3_moe", "nf4").basis
    assert "linear layers in int8, bfloat16 for the rest, experts among it" in weights("qwen3_moe", "int8").basis
    assert "linear layers in nf4, bfloat16 for the rest, experts among it" in weights("llama4_text", "nf4").basis
