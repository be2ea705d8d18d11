"""The fused adapter computes what PEFT computes, and a dead one is noticed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from components.shared.errors import TrainingError
from components.shared.models import load_model
from components.train_lora import adapter
from components.train_lora.config import TrainConfig


def test_fused_equals_peft(make_model: Callable[..., Path]) -> None:
    folder = make_model()
    ours = adapter.attach(load_model(folder), TrainConfig(rank=4, alpha=8))
    plan = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    theirs = get_peft_model(load_model(folder), plan)
    torch.manual_seed(0)
    weights = {name: torch.randn_like(p) * 0.1 for name, p in adapter.trained(ours).items()}
    tokens = torch.arange(20)[None]
    results = []
    for model in (ours, theirs):
        adapter.restore(model, weights)
        logits = model(input_ids=tokens).logits
        logits.square().mean().backward()
        results.append((logits.detach(), {name: p.grad for name, p in adapter.trained(model).items()}))
    (logits, gradients), (wanted, wanted_gradients) = results
    assert torch.allclose(logits, wanted, atol=1e-4)
    assert all(torch.allclose(gradients[n], wanted_gradients[n], rtol=1e-3, atol=1e-5) for n in wanted_gradients)


def test_dead_adapter_is_an_error(make_model: Callable[..., Path]) -> None:
    model = adapter.attach(load_model(make_model()), TrainConfig(rank=4, alpha=8))
    model(input_ids=torch.arange(20)[None]).logits.square().mean().backward()
    adapter.check_gradients(model)
    dead = next(p for name, p in adapter.trained(model).items() if ".lora_B." in name)
    dead.grad = torch.zeros_like(dead)
    with pytest.raises(TrainingError, match="1 adapter layers got no gradient"):
        adapter.check_gradients(model)
