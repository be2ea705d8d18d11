"""The same training gives the same bits, whole or resumed from a checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loraline.models.quantize import quantize
from loraline.training import train as training
from loraline.training.config import TrainConfig
from loraline.training.train import train

CONFIG = TrainConfig(rank=4, alpha=8, learning_rate=1e-2, max_length=256, batch_size=2, max_steps=4)


def adapter_bytes(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("quantization", "changes"), [("none", {"dropout": 0.1}), ("nf4", {"gradient_checkpointing": True})], ids=str
)
def test_an_interrupted_training_gives_the_bits_of_an_undisturbed_one(
    device: torch.device,
    quantization: str,
    changes: dict[str, Any],
    model_on: Callable[..., Path],
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = model_on(device, "bfloat16")
    if quantization != "none":
        quantize(base, quantization, tmp_path / "quantized")
        base = tmp_path / "quantized"
    config = CONFIG.model_copy(update={**changes, "save_steps": 1})
    train(config, base, dataset, tmp_path / "undisturbed")
    before = torch.are_deterministic_algorithms_enabled()

    original, done = training.train_step, []

    def interrupt(*arguments: Any) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config, base, dataset, tmp_path / "resumed", str(tmp_path / "kept"))
    resumed = train(config, base, dataset, tmp_path / "resumed", str(tmp_path / "kept"))
    assert resumed.resumed_from
    assert adapter_bytes(tmp_path / "resumed") == adapter_bytes(tmp_path / "undisturbed")
    assert torch.are_deterministic_algorithms_enabled() == before


@pytest.mark.gpu
def test_the_model_needs_no_kernel_that_adds_in_any_order(
    model_on: Callable[..., Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(CONFIG, model_on(torch.device("cuda"), "bfloat16"), dataset, tmp_path / "adapter")
    assert "can differ by rounding" not in capsys.readouterr().out
