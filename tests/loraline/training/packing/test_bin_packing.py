"""Packed rows hold every sequence once, are nearly full, and depend on the seed alone."""

import numpy as np
import pytest

from loraline.training.config import TrainConfig
from loraline.training.distributed import Distributed
from loraline.training.lr_scheduler import learning_rate
from loraline.training.packing.bin_packing import shuffled_rows
from loraline.training.sampler import micro_batches, plan_steps
from loraline.training.tokenized_dataset import TokenizedDataset

LENGTHS = np.clip(np.random.default_rng(0).lognormal(4.8, 0.8, 3000), 4, 600).astype(np.int64)


def test_every_sequence_is_packed_once_into_nearly_full_rows() -> None:
    rows = shuffled_rows(LENGTHS, 1024, seed=1, epoch=0)
    assert sorted(np.concatenate(rows)) == list(range(3000))
    sums = [int(LENGTHS[row].sum()) for row in rows]
    assert max(sums) <= 1024
    assert sum(sums) / (1024 * len(rows)) > 0.97


def test_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(shuffled_rows(LENGTHS, 1024, seed, epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    rows = shuffled_rows(LENGTHS, 1024, 1, 0)
    longest = [int(LENGTHS[row].max()) for row in rows]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2  # not sorted by length


@pytest.mark.parametrize(("changes", "steps", "ends"), [({}, 6, [2, 4, 6]), ({"max_steps": 3}, 3, [2, 3])])
def test_number_of_steps_and_epoch_ends(changes: dict[str, int], steps: int, ends: list[int]) -> None:
    lengths = np.full(16, 16)
    tokens = np.zeros(256, np.int32)
    dataset = TokenizedDataset([""] * 16, [""] * 16, tokens, tokens == 0, lengths, 0, 0, 0, 0)
    config = TrainConfig(max_length=32, batch_size=2, gradient_accumulation_steps=2, epochs=3, **changes)
    planned, epoch_ends = plan_steps(dataset, config)
    assert (len(planned), epoch_ends) == (steps, ends)
    assert all(len(step) == 4 and all(len(row) == 2 for row in step) for step in planned)


def test_ranks_share_all_rows_in_micro_batches_of_the_same_size() -> None:
    step = [np.array([2 * i, 2 * i + 1]) for i in range(7)]
    shares = [micro_batches(Distributed(number, 3).shard(step), 2) for number in range(3)]
    assert [[chosen.tolist() for chosen in share] for share in shares] == [
        [[0, 1, 6, 7], [12, 13]],
        [[2, 3, 8, 9]],
        [[4, 5, 10, 11]],
    ]
    assert micro_batches(Distributed(0, 1).shard(step[:3]), 2)[0].tolist() == [0, 1, 2, 3]
    assert not micro_batches(Distributed(2, 3).shard(step[:1]), 2)


def test_learning_rate_schedules() -> None:
    def rates(lr_scheduler_type: str) -> list[float]:
        config = TrainConfig.model_validate(
            {"lr_scheduler_type": lr_scheduler_type, "warmup_ratio": 0.2, "learning_rate": 1.0}
        )
        return [learning_rate(config, step, 10) for step in range(10)]

    for lr_scheduler_type in ("constant_with_warmup", "linear", "cosine"):
        assert rates(lr_scheduler_type)[:3] == [0.5, 1.0, 1.0]
    assert rates("constant_with_warmup")[-1] == 1.0
    assert rates("linear")[-1] == pytest.approx(1 / 8)
    assert rates("cosine")[6] == pytest.approx(0.5)
