"""Fused LoRA computes what PEFT's own forward and backward passes compute, also on a 4-bit base."""

from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from loraline.models.load import load_model
from loraline.models.quantize import quantize
from loraline.training.adapter import add_adapter, trainable_parameters
from loraline.training.config import TrainConfig

CONFIG = TrainConfig(rank=4, alpha=8)
# Relative, in the norm. In bfloat16 PEFT computes the adapter in float32, and both round the sum.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.03}


def adapted(folder: Path, config: TrainConfig = CONFIG) -> Any:
    """A model with an adapter whose B matrices are no longer zero."""
    torch.manual_seed(0)
    model = add_adapter(load_model(folder), config)
    for name, parameter in trainable_parameters(model).items():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.train()


def fused_layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if "forward" in vars(module) and hasattr(module, "lora_A")]


def as_peft_does(model: Any) -> None:
    """Give all layers PEFT's own forward pass again."""
    for module in fused_layers(model):
        module.forward = MethodType(type(module).forward, module)


def loss_and_gradients(model: Any) -> tuple[Tensor, Tensor]:
    """Loss of a sequence, and the gradients of the adapter in one vector."""
    token_ids = torch.arange(40, 120)[None]
    loss = functional.cross_entropy(model(input_ids=token_ids).logits[0, :-1].float(), token_ids[0, 1:])
    gradients = torch.autograd.grad(loss, list(trainable_parameters(model).values()))
    return loss.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.fixture(params=[("llama", "float32"), ("llama", "bfloat16"), ("qwen2", "float32")], ids="-".join)
def quantized(request: pytest.FixtureRequest, make_model: Callable[..., Path], tmp_path: Path) -> Path:
    """A base in nf4; that of Qwen2 has layers with a bias."""
    quantize(make_model(*request.param), "nf4", tmp_path / "quantized")
    return tmp_path / "quantized"


def test_a_4bit_base_gives_the_loss_and_gradients_of_pefts_own_path(quantized: Path) -> None:
    model = adapted(quantized)
    assert len(fused_layers(model)) == 14, "every adapted layer"
    loss, gradients = loss_and_gradients(model)
    as_peft_does(model)
    expected_loss, expected_gradients = loss_and_gradients(model)
    tolerance = TOLERANCE[model.dtype]
    assert gradients.count_nonzero() > 0.9 * len(gradients)
    assert difference(loss, expected_loss) < tolerance
    assert difference(gradients, expected_gradients) < tolerance


def test_a_4bit_base_trains_on_after_an_evaluation(quantized: Path) -> None:
    """On some CPUs bitsandbytes repacks a weight in eval mode, and then gives no gradient."""
    model = adapted(quantized)
    before = loss_and_gradients(model)[1]
    with torch.no_grad():
        model.eval()(input_ids=torch.arange(40, 60)[None])
    assert torch.equal(loss_and_gradients(model.train())[1], before)


def test_a_4bit_base_keeps_no_copy_of_the_input_in_float32_and_no_dense_weight(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    """What is kept for the backward pass is in the base's dtype, and the weight stays in 4 bit."""
    quantize(make_model("llama", "bfloat16"), "nf4", tmp_path / "quantized")
    model = adapted(tmp_path / "quantized")
    kept = []
    layer = fused_layers(model)[0]
    x = torch.randn(8, 64, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(x)
    assert {tensor.dtype for tensor in kept} == {torch.bfloat16, torch.uint8}
    assert max(tensor.numel() for tensor in kept if tensor.dtype == torch.bfloat16) == x.numel()


@pytest.mark.parametrize("changes", [{"dropout": 0.1}, {"use_dora": True}])
def test_what_cannot_be_fused_stays_pefts(
    changes: dict[str, Any], make_model: Callable[..., Path], tmp_path: Path
) -> None:
    quantize(make_model(), "nf4", tmp_path / "quantized")
    assert not fused_layers(adapted(tmp_path / "quantized", CONFIG.model_copy(update=changes)))
