"""Forward and backward passes through bases that bitsandbytes quantized."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loraline.models.load import load_model
from loraline.models.quantize import quantize
from loraline.training.adapter import add_adapter, trainable_parameters
from loraline.training.config import TrainConfig
from loraline.training.train import train

CONFIG = TrainConfig(rank=4, alpha=8, learning_rate=1e-2, max_length=256, batch_size=2, max_steps=10)
# Relative error of the logits, in the norm, that quantizing may make; nf4 has 16 values for a weight, int8 256.
ERROR = {"nf4": 0.6, "int8": 0.2}


@pytest.fixture(params=["nf4", "int8"])
def quantization(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folders(
    device: torch.device, quantization: str, model_on: Callable[..., Path], tmp_path: Path
) -> tuple[Path, Path]:
    """A base, and its quantized copy."""
    base, quantized = model_on(device, "float16" if device.type == "cuda" else "float32"), tmp_path / "quantized"
    quantize(base, quantization, quantized)
    return base, quantized


def test_logits_and_gradients_are_near_those_of_the_base(folders: tuple[Path, Path], quantization: str) -> None:
    logits, gradients = zip(*(_logits_and_gradient(folder) for folder in folders), strict=True)
    assert 0 < _relative_error(*logits) < ERROR[quantization]
    assert 0 < _relative_error(*gradients) < 2 * ERROR[quantization]


def _logits_and_gradient(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a sequence, and the gradient of the adapter's B matrices."""
    torch.manual_seed(0)
    model = add_adapter(load_model(folder), CONFIG)
    token_ids = torch.arange(40, 80, device=model.device)[None]
    logits = model(input_ids=token_ids).logits.float()
    torch.nn.functional.cross_entropy(logits[0, :-1], token_ids[0, 1:]).backward()
    b_matrices = [p for name, p in trainable_parameters(model).items() if ".lora_B." in name]
    assert all(p.grad is not None and p.grad.any() for p in b_matrices)
    return logits.detach(), torch.cat([p.grad.flatten().float() for p in b_matrices])


def _relative_error(exact: torch.Tensor, other: torch.Tensor) -> float:
    return float((other - exact).norm() / exact.norm())


def test_training_on_a_quantized_base_learns(
    folders: tuple[Path, Path], quantization: str, dataset: Path, tmp_path: Path
) -> None:
    report = train(CONFIG, folders[1], dataset, tmp_path / "adapter")
    assert report.quantization == quantization
    assert report.history[-1].eval_loss < report.history[0].eval_loss - 0.5
    assert report.packing
    assert report.packing.max_difference <= report.packing.tolerance
