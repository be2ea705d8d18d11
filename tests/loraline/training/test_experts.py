"""Mixtures of experts: what gets an adapter is counted and told, and trains as PEFT's own layers do."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open

from loraline.errors import ConfigurationError
from loraline.models.load import load_model
from loraline.models.memory_items import count_adapter_parameters
from loraline.training.adapter import add_adapter, check_gradients, save_adapter, trainable_parameters
from loraline.training.config import TrainConfig
from loraline.training.train import train

ModelMaker = Callable[..., Path]
MIXTURES = ["mixtral", "qwen3_moe", "qwen3_next", "deepseek_v3", "gpt_oss", "llama4_text", "granitemoe", "glm4_moe"]
SMALL = TrainConfig(rank=4, alpha=8, learning_rate=1e-2, max_length=160, batch_size=2, epochs=1, save_steps=2)


def adapted(model: PeftModel) -> set[str]:
    """Names of the modules of the last block that have an adapter."""
    names = {name.rsplit(".lora_", 1)[0] for name in trainable_parameters(model)}
    return {name.split("layers.1.")[1] for name in names if "layers.1." in name}


@pytest.mark.parametrize("family", MIXTURES)
def test_experts_are_adapted_counted_and_trained_as_peft_does(
    family: str, make_model: ModelMaker, tmp_path: Path
) -> None:
    folder = make_model(family)
    config = TrainConfig(rank=4, alpha=8)
    base: Any = load_model(folder)
    counted = count_adapter_parameters(copy.deepcopy(base).to("meta"), config.footprint())
    ours = add_adapter(base, config)
    assert counted == sum(weight.numel() for weight in trainable_parameters(ours).values())
    assert any(name.endswith("experts") for name in adapted(ours))
    assert any(name.endswith("experts.base_layer") for name in adapted(ours))  # PEFT puts one around the other
    assert not any(name.endswith(("gate", "router")) for name in adapted(ours))

    torch.manual_seed(0)
    for weight in trainable_parameters(ours).values():
        weight.data = 0.1 * torch.randn_like(weight)
    save_adapter(ours, tmp_path)
    theirs = PeftModel.from_pretrained(load_model(folder), str(tmp_path), is_trainable=True)
    theirs.eval()
    results = []
    for model in (ours, theirs):
        logits = model(input_ids=torch.arange(30)[None]).logits
        logits.square().mean().backward()
        results.append((logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}))
    check_gradients(ours)
    (logits, gradients), (wanted, wanted_gradients) = results
    assert torch.allclose(logits, wanted, atol=1e-4)
    assert gradients.keys() == wanted_gradients.keys()
    assert all(torch.allclose(gradients[n], wanted_gradients[n], rtol=1e-3, atol=1e-5) for n in wanted_gradients)


def test_dense_layers_and_shared_experts_are_adapted_beside_the_experts(make_model: ModelMaker) -> None:
    """PEFT takes their names for those of experts in this family, and adapts neither."""
    model = add_adapter(load_model(make_model("deepseek_v3")), TrainConfig(rank=4))
    shared = {f"mlp.shared_experts.{name}" for name in ("gate_proj", "up_proj", "down_proj")}
    assert shared < adapted(model)
    assert "base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight" in trainable_parameters(model)


@pytest.mark.parametrize(
    ("targets", "wanted"),
    [
        (["q_proj", "experts.down_proj"], {"self_attn.q_proj", "mlp.experts"}),
        (["experts"], {"mlp.experts", "mlp.experts.base_layer"}),
        (["q_proj"], {"self_attn.q_proj"}),
    ],
)
def test_experts_are_chosen_by_name(targets: list[str], wanted: set[str], make_model: ModelMaker) -> None:
    model = add_adapter(load_model(make_model("qwen3_moe")), TrainConfig(rank=4, target_modules=targets))
    assert adapted(model) == wanted


def test_errors_name_the_experts_and_say_what_they_cannot_have(make_model: ModelMaker) -> None:
    base = load_model(make_model("qwen3_moe"))
    with pytest.raises(ConfigurationError, match=r"no linear layer is called 'gate_proj'.*experts\.down_proj"):
        add_adapter(base, TrainConfig(rank=4, target_modules=["q_proj", "gate_proj"]))
    with pytest.raises(ConfigurationError, match=r"dropout=0.1 \(set it to 0\) and training.use_dora=true"):
        add_adapter(base, TrainConfig(rank=4, dropout=0.1, use_dora=True))
    add_adapter(base, TrainConfig(rank=4, dropout=0.1, target_modules=["q_proj"]))


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_training_is_reported_and_resumes_to_the_same_adapter(
    family: str, make_model: ModelMaker, dataset: Path, tmp_path: Path
) -> None:
    base, checkpoints = make_model(family), tmp_path / "checkpoints"
    config = SMALL.model_copy(update={"max_steps": 6})
    report = train(config, base, dataset, tmp_path / "whole", str(checkpoints))
    losses = [point.loss for point in report.history if point.loss is not None]
    assert losses[-1] < losses[0] - 0.3
    assert "experts.down_proj (2), experts.gate_up_proj (2)" in report.adapted
    assert report.packing is not None

    newest = sorted(checkpoints.rglob("*.pt"), key=lambda path: path.stat().st_mtime)[-1]
    newest.unlink()
    resumed = train(config, base, dataset, tmp_path / "resumed", str(checkpoints))
    assert resumed.resumed_from is not None
    for name in ("whole", "resumed"):
        with safe_open(tmp_path / name / "adapter_model.safetensors", "pt") as weights:
            assert any("experts.base_layer.lora_A" in key for key in weights.keys())  # noqa: SIM118
    whole, again = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "resumed"))
    assert whole == again
    targets = json.loads((tmp_path / "whole" / "adapter_config.json").read_text())["target_parameters"]
    assert targets == sorted(targets)
