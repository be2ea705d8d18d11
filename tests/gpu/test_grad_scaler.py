"""Training in float16 with a gradient scaler."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loraline.data.rows import read_rows
from loraline.models.folder import load_tokenizer
from loraline.training.adapter import adapter_state
from loraline.training.config import TrainConfig
from loraline.training.distributed import SINGLE_PROCESS
from loraline.training.optimizer import create_grad_scaler
from loraline.training.sampler import plan_steps
from loraline.training.tokenized_dataset import tokenize
from loraline.training.train import train
from loraline.training.train_context import create_context
from loraline.training.train_state import TrainState
from loraline.training.train_step import train_step

CONFIG = TrainConfig(rank=4, alpha=8, learning_rate=1e-2, max_length=256, batch_size=2, max_steps=10)
OVERFLOWING = 2.0**60


def test_float16_on_cuda_scales_the_loss(device: torch.device) -> None:
    assert create_grad_scaler(device, torch.float16).is_enabled() == (device.type == "cuda")
    assert not create_grad_scaler(device, torch.bfloat16).is_enabled()


def test_losses_are_near_those_of_float32(
    device: torch.device, model_on: Callable[..., Path], dataset: Path, tmp_path: Path
) -> None:
    reports = [train(CONFIG, model_on(device, dtype), dataset, tmp_path / dtype) for dtype in ("float16", "float32")]
    half, single = ([metrics.loss for metrics in report.history[1:]] for report in reports)
    assert reports[0].dtype == "float16"
    assert half[0] == pytest.approx(single[0], rel=0.01)
    assert half[-1] == pytest.approx(single[-1], rel=0.1)
    assert half[-1] < half[0] - 0.5


def test_a_step_whose_gradients_overflow_is_skipped_and_the_scale_lowered(
    device: torch.device, model_on: Callable[..., Path], dataset: Path
) -> None:
    folder = model_on(device, "float16")
    train_set = tokenize(load_tokenizer(folder), read_rows(dataset / "train.parquet"), CONFIG.max_length)
    context = create_context(CONFIG, folder, train_set, SINGLE_PROCESS)
    context.grad_scaler = torch.amp.GradScaler(device.type, init_scale=OVERFLOWING)
    steps, _ = plan_steps(train_set, CONFIG)
    before, state = adapter_state(context.model), TrainState()

    metrics = train_step(context, train_set, steps[0], state, len(steps))
    assert state.step == 1
    assert metrics.loss > 0
    assert all(torch.equal(weight, before[name]) for name, weight in adapter_state(context.model).items())
    assert context.grad_scaler.get_scale() == OVERFLOWING / 2

    context.grad_scaler = torch.amp.GradScaler(device.type, init_scale=2.0)
    train_step(context, train_set, steps[1], state, len(steps))
    after = adapter_state(context.model)
    assert all(weight.isfinite().all() for weight in after.values())
    assert any(not torch.equal(weight, before[name]) for name, weight in after.items())
