"""launch refuses a training that does not fit into memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from loraline.errors import ModelLoadingError
from loraline.training.config import TrainConfig
from loraline.training.launch import launch


def test_training_that_does_not_fit_is_refused_before_loading(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraline.models.accelerators.free_memory", lambda _: 1 << 20)
    config = TrainConfig(rank=4, max_length=64, batch_size=2)
    with pytest.raises(ModelLoadingError, match=r"needs .* MiB, and cpu has 1\.0 MiB .*gradient_checkpointing=true"):
        launch(config, make_model(), tmp_path / "no-dataset", tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
