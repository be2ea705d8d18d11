"""A mixture of experts, in 16 bit and with its experts in NF4, computes on CUDA as in float32."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loraline.models.load_base import load_base
from loraline.models.quantize import quantize
from loraline.training.config import TrainConfig
from loraline.training.train import train

CONFIG = TrainConfig(rank=4, alpha=8, learning_rate=1e-2, max_length=256, batch_size=2, max_steps=10)


def test_experts_in_nf4_are_where_the_model_is(
    device: torch.device, model_on: Callable[..., Path], tmp_path: Path
) -> None:
    base, quantized = model_on(device, "float32", "qwen3_moe"), tmp_path / "quantized"
    quantize(base, "nf4", quantized)
    token_ids = torch.arange(40, 80, device=device)[None]
    exact, packed = (load_base(folder)(input_ids=token_ids).logits for folder in (base, quantized))
    assert packed.device.type == device.type
    assert 0 < float((packed - exact).norm() / exact.norm()) < 0.6


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_training_a_mixture_learns(
    device: torch.device, quantization: str, model_on: Callable[..., Path], dataset: Path, tmp_path: Path
) -> None:
    base = model_on(device, "bfloat16" if device.type == "cuda" else "float32", "qwen3_moe")
    if quantization == "nf4":
        quantize(base, "nf4", tmp_path / "quantized")
        base = tmp_path / "quantized"
    report = train(CONFIG, base, dataset, tmp_path / "adapter")
    assert "experts.down_proj (2)" in report.adapted
    assert report.history[-1].eval_loss is not None
    assert report.history[0].eval_loss is not None
    assert report.history[-1].eval_loss < report.history[0].eval_loss - 0.3
