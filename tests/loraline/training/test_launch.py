"""In how many processes a training is started, and that one which does not fit into memory is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from loraline.errors import ModelLoadingError
from loraline.recipe_file import load_recipe, shipped_recipes
from loraline.training.config import TrainConfig
from loraline.training.launch import launch, local_processes


def test_training_that_does_not_fit_is_refused_before_loading(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraline.models.accelerators.free_memory", lambda _: 1 << 20)
    config = TrainConfig(rank=4, max_length=64, batch_size=2)
    with pytest.raises(ModelLoadingError, match=r"needs .* MiB, and cpu has 1\.0 MiB .*gradient_checkpointing=true"):
        launch(config, make_model(), tmp_path / "no-dataset", tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("gpus", "batch_size", "accumulation", "nodes", "expected"),
    [
        (0, 4, 1, 1, 1),
        (1, 1, 1, 1, 1),
        (2, 1, 1, 1, 1),  # the quickstart on a machine with two GPUs
        (2, 4, 1, 1, 2),
        (8, 4, 1, 1, 4),
        (8, 1, 8, 1, 8),
        (3, 4, 1, 1, 3),
        (0, 4, 1, 2, 2),
        (8, 8, 1, 2, 2),  # what was asked for
    ],
)
def test_a_process_for_each_gpu_for_which_a_step_has_rows(
    gpus: int, batch_size: int, accumulation: int, nodes: int, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(batch_size=batch_size, gradient_accumulation_steps=accumulation, nodes=nodes)
    assert local_processes(config, gpus) == expected
    is_told = f"{expected} of {gpus} GPUs are used: an optimizer step has {batch_size * accumulation} packed rows"
    assert (is_told in capsys.readouterr().out) == (nodes == 1 and expected < gpus)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_starts_on_any_number_of_gpus(name: str) -> None:
    config = load_recipe(name).training
    for gpus in range(17):
        assert 1 <= local_processes(config, gpus) <= max(1, min(gpus, config.rows_per_step))
