"""Checkpoints by step and by time, while training goes on."""

import gc
import itertools
import threading
import weakref
from pathlib import Path

import pytest
import torch

from loraline.recipe_file import load_recipe, shipped_recipes
from loraline.training.checkpoint import Checkpoint, CheckpointStore
from loraline.training.checkpoint_saver import CheckpointSaver
from loraline.training.config import TrainConfig


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Recorder(CheckpointStore):
    """A store that notes which steps it was given; it can be slow or fail."""

    def __init__(self) -> None:
        super().__init__("", "")
        self.steps: list[int] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.works = True

    def save(self, step: int, checkpoint: Checkpoint) -> bool:
        assert self.goes_on.wait(30)
        self.steps.append(step)
        return self.works


def saved_steps(config: TrainConfig, epoch_ends: list[int], seconds: float) -> list[int]:
    """The steps after which checkpoints are saved, in a training whose steps take so many seconds."""
    clock, store = Clock(), Recorder()
    with CheckpointSaver(store, config, epoch_ends, clock) as saver:
        for step in range(1, epoch_ends[-1] + 1):
            clock.now += seconds
            saver.after_step(step, dict, is_last=step == epoch_ends[-1])
            if saver._thread:
                saver._thread.join()
    return store.steps


@pytest.mark.parametrize("name", shipped_recipes())
def test_no_shipped_recipe_saves_only_at_its_end(name: str) -> None:
    """An epoch of three hours, as the GPU recipes have: a kill loses ten minutes and a step at most."""
    config = load_recipe(name).training
    steps = saved_steps(config, [500], seconds=20)
    assert steps[0] * 20 <= 620
    assert max(b - a for a, b in itertools.pairwise(steps)) * 20 <= 620
    assert steps[-1] == 500


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"save_minutes": 0}, [20, 40]),
        ({"save_minutes": 0, "save_steps": 15}, [15, 30, 40]),
        ({"save_minutes": 5}, [5, 10, 15, 20, 25, 30, 35, 40]),
        ({"save_minutes": 10, "save_steps": 15}, [10, 15, 25, 30, 40]),
        ({"save_minutes": 0.5, "save_steps": 100}, list(range(1, 41))),
    ],
)
def test_a_checkpoint_is_saved_by_step_and_by_time(changes: dict[str, float], expected: list[int]) -> None:
    assert saved_steps(TrainConfig(**changes), [20, 40], seconds=60) == expected


def test_training_goes_on_while_a_slow_store_takes_one_copy_at_a_time() -> None:
    store, clock = Recorder(), Clock()
    store.goes_on.clear()
    copies: list[weakref.ref[torch.Tensor]] = []

    def copy() -> Checkpoint:
        tensor = torch.ones(3)
        copies.append(weakref.ref(tensor))
        return {"tensor": tensor}

    with CheckpointSaver(store, TrainConfig(save_steps=2, save_minutes=0), [9], clock) as saver:
        for step in range(1, 9):
            saver.after_step(step, copy, is_last=False)  # does not wait
        assert len(copies) == 1
        store.goes_on.set()
        assert saver._thread
        saver._thread.join()
        saver.after_step(9, copy, is_last=True)
    gc.collect()
    assert store.steps == [2, 9]
    assert all(copy() is None for copy in copies)


def test_what_was_due_while_a_store_was_busy_or_away_is_saved_later() -> None:
    store, clock = Recorder(), Clock()
    store.works = False
    with CheckpointSaver(store, TrainConfig(save_steps=4, save_minutes=0), [9], clock) as saver:
        for step in range(1, 9):
            clock.now = float(step) * 10
            saver.after_step(step, dict, is_last=False)
            if saver._thread:
                saver._thread.join()
            store.works = step >= 5
    assert store.steps == [4, 7, 8], "tried again half a minute later, and then as planned"


def test_an_error_that_is_not_the_stores_is_raised() -> None:
    class Broken(Recorder):
        def save(self, step: int, checkpoint: Checkpoint) -> bool:
            raise ValueError("no checkpoint")

    with (
        pytest.raises(ValueError, match="no checkpoint"),
        CheckpointSaver(Broken(), TrainConfig(save_steps=1), [9]) as saver,
    ):
        saver.after_step(1, dict, is_last=False)


def test_the_saved_state_is_that_of_the_step_and_not_of_later_ones(tmp_path: Path) -> None:
    """A copy that shared memory with the optimizer would be written with what a later step made of it."""
    from loraline.training.train_context import _copy_to_cpu

    parameter = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    parameter.grad = torch.ones(4)
    optimizer.step()
    copied = _copy_to_cpu(optimizer.state_dict())
    before = {name: value.clone() for name, value in copied["state"][0].items()}
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in copied["state"][0].items())
    assert not torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], before["exp_avg"])
    assert copied["param_groups"] == optimizer.state_dict()["param_groups"]
