"""Fused LoRA equals PEFT's forward pass; invalid target modules and missing gradients are errors."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from loraline.errors import ConfigurationError, TrainingError
from loraline.models.load import load_model
from loraline.training.adapter import (
    add_adapter,
    check_gradients,
    load_adapter_state,
    save_adapter,
    trainable_parameters,
)
from loraline.training.config import TrainConfig


def test_fused_lora_equals_peft(make_model: Callable[..., Path]) -> None:
    folder = make_model()
    ours = add_adapter(load_model(folder), TrainConfig(rank=4, alpha=8))
    plan = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    theirs = get_peft_model(load_model(folder), plan)
    torch.manual_seed(0)
    weights = {name: torch.randn_like(p) * 0.1 for name, p in trainable_parameters(ours).items()}
    tokens = torch.arange(20)[None]
    results = []
    for model in (ours, theirs):
        load_adapter_state(model, weights)
        logits = model(input_ids=tokens).logits
        logits.square().mean().backward()
        results.append((logits.detach(), {name: p.grad for name, p in trainable_parameters(model).items()}))
    (logits, gradients), (wanted, wanted_gradients) = results
    assert torch.allclose(logits, wanted, atol=1e-4)
    assert all(torch.allclose(gradients[n], wanted_gradients[n], rtol=1e-3, atol=1e-5) for n in wanted_gradients)


def test_error_for_an_adapter_layer_without_gradient(make_model: Callable[..., Path]) -> None:
    model = add_adapter(load_model(make_model()), TrainConfig(rank=4, alpha=8))
    model(input_ids=torch.arange(20)[None]).logits.square().mean().backward()
    check_gradients(model)
    dead = next(p for name, p in trainable_parameters(model).items() if ".lora_B." in name)
    dead.grad = torch.zeros_like(dead)
    with pytest.raises(TrainingError, match="1 adapter layers got no gradient"):
        check_gradients(model)


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_error_for_the_output_head_of_tied_embeddings(make_model: Callable[..., Path], family: str) -> None:
    targets = ["lm_head", "o_proj" if family == "gemma2" else "c_proj"]
    with pytest.raises(ConfigurationError, match="'lm_head' shares its weights with the model's input embeddings"):
        add_adapter(load_model(make_model(family)), TrainConfig(rank=4, target_modules=targets))


def test_untied_output_head_gets_an_adapter(make_model: Callable[..., Path]) -> None:
    model = add_adapter(load_model(make_model("llama")), TrainConfig(rank=4, target_modules=["lm_head"]))
    assert {name.rsplit(".lora_", 1)[0] for name in trainable_parameters(model)} == {"base_model.model.lm_head"}


def test_adapter_config_names_the_base_as_the_recipe_does(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = add_adapter(load_model(make_model("llama")), TrainConfig(rank=4))
    save_adapter(model, tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("llama", None)
