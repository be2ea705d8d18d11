"""A merged model computes what the adapter on its base computes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loraline.merging.config import MergeConfig
from loraline.merging.merge import merge
from loraline.training.config import TrainConfig
from loraline.training.train import train


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merge_of_an_adapter_that_was_trained_on_the_device(
    device: torch.device, dtype: str, model_on: Callable[..., Path], dataset: Path, tmp_path: Path
) -> None:
    base, adapter = model_on(device, dtype), tmp_path / "adapter"
    config = TrainConfig(rank=4, alpha=8, learning_rate=1e-2, max_length=256, batch_size=2, max_steps=8)
    assert train(config, base, dataset, adapter).device.startswith(device.type)
    report = merge(MergeConfig(generated_tokens=8), base, adapter, dataset, tmp_path / "merged")
    assert report.max_abs_logit_difference is not None
    assert report.max_abs_logit_difference < 1e-2  # the folder's weights are float32, so that little is rounded
    assert report.kl_divergence
    assert report.kl_divergence.max < 1e-4
    assert report.max_adapter_effect
    assert report.max_adapter_effect > 0.5
    assert report.greedy
    assert report.greedy.equal + report.greedy.ties == report.greedy.examples
