"""The activations that plan tells for a mixture of experts are those that a real forward pass saves."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3MoeConfig

from loraline.models.config import ModelConfig
from loraline.models.memory_items import memory_items
from loraline.training.adapter import add_adapter
from loraline.training.config import TrainConfig

_CONFIG = Qwen3MoeConfig(
    **{"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 300},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32},
    **{"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
)


@pytest.mark.parametrize("targets", [["all-linear"], ["q_proj", "v_proj"]], ids=["experts", "attention"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_activations_are_those_of_a_real_forward_pass(dtype: torch.dtype, targets: list[str]) -> None:
    training = TrainConfig(rank=8, max_length=128, batch_size=2, target_modules=targets)
    base = AutoModelForCausalLM.from_config(copy.deepcopy(_CONFIG), dtype=dtype).requires_grad_(False)
    shape = copy.deepcopy(base).to("meta")
    told = {item.name: item for item in memory_items(shape, ModelConfig(source=""), training.footprint())}

    model = add_adapter(base, training).train()
    held = {weight.untyped_storage().data_ptr() for weight in (*model.parameters(), *model.buffers())}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in held:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    model.enable_input_require_grads()  # as all layers but the first have it
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        base.model(input_ids=torch.arange(256).view(2, 128), use_cache=False)
    real = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    assert told["activations"].basis == "counted in a forward pass on the meta device"
    assert told["activations"].size == pytest.approx(real, rel=0.08)
