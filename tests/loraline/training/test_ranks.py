"""What ranks decide together, in processes that are forked here and joined by gloo."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loraline.data.rows import read_rows
from loraline.errors import TrainingError
from loraline.models.folder import load_tokenizer
from loraline.training.adapter import adapter_state
from loraline.training.config import TrainConfig
from loraline.training.distributed import SINGLE_PROCESS, Distributed, init_process_group
from loraline.training.sampler import plan_steps
from loraline.training.tokenized_dataset import tokenize
from loraline.training.train_context import TrainContext, create_context, require_same_start
from loraline.training.train_state import TrainState
from loraline.training.train_step import train_step

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="autograd's threads for a GPU do not survive the fork of a process"
)
CONFIG = TrainConfig(rank=4, learning_rate=1e-2, max_length=256, batch_size=2, max_steps=4, warmup_ratio=0.0)
OVERFLOWING = 2.0**60  # in float16


def run_ranks(work: Callable[[Distributed], Any], folder: Path) -> list[Any]:
    """Run a function in two ranks; return what each returns, or the error that it raises."""
    fork = multiprocessing.get_context("fork")
    results: Any = fork.SimpleQueue()

    def run(rank: int) -> None:
        names = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2, "GLOO_SOCKET_IFNAME": "lo"}
        os.environ.update({name: str(value) for name, value in names.items()})
        torch.set_num_threads(1)
        with init_process_group(f"file://{folder}/meeting") as distributed:
            try:
                results.put((rank, work(distributed)))
            except Exception as error:
                results.put((rank, error))

    started = [fork.Process(target=run, args=(rank,)) for rank in range(2)]
    for process in started:
        process.start()
    returned = dict(results.get() for _ in started)
    for process in started:
        process.join()
    return [returned[rank] for rank in range(2)]


@pytest.fixture
def context(make_model: Callable[..., Path], dataset: Path) -> TrainContext:
    folder = make_model("llama", "float16")
    return create_context(CONFIG, folder, rows_of(folder, dataset), SINGLE_PROCESS)


def rows_of(model: Path, dataset: Path) -> Any:
    return tokenize(load_tokenizer(model), read_rows(dataset / "train.parquet"), CONFIG.max_length)


def test_a_rank_without_rows_takes_part_in_the_decisions_of_the_gradient_scaler(
    context: TrainContext, make_model: Callable[..., Path], dataset: Path, tmp_path: Path
) -> None:
    """In steps of one row the second rank is idle; the first step overflows and is skipped by both, the next is not."""
    train_set = rows_of(make_model(), dataset)
    steps, _ = plan_steps(train_set, CONFIG)

    def work(distributed: Distributed) -> tuple[list[float], list[bytes]]:
        context.distributed = distributed
        context.grad_scaler = torch.amp.GradScaler("cpu", init_scale=OVERFLOWING)
        scales, weights, state = [], [state_bytes(context)], TrainState()
        for rows, scale in ((steps[0][:1], OVERFLOWING), (steps[1][:1], 8.0)):
            context.grad_scaler.update(scale) if scales else None
            train_step(context, train_set, rows, state, len(steps))
            scales.append(context.grad_scaler.get_scale())
            weights.append(state_bytes(context))
        return scales, weights

    first, second = run_ranks(work, tmp_path)
    assert first == second
    scales, weights = first
    assert scales == [OVERFLOWING / 2, 8.0]
    assert weights[0] == weights[1]
    assert weights[1] != weights[2]


def state_bytes(context: TrainContext) -> bytes:
    return b"".join(weight.numpy().tobytes() for weight in adapter_state(context.model).values())


@pytest.mark.parametrize("differs", [False, True])
def test_ranks_that_would_begin_with_other_weights_are_stopped(
    differs: bool, context: TrainContext, tmp_path: Path
) -> None:
    def work(distributed: Distributed) -> str:
        context.distributed = distributed
        if differs and distributed.rank == 1:
            next(p for p in context.model.parameters() if p.requires_grad).data.view(-1)[3] += 1e-7
        require_same_start(context, TrainState())
        return "begun"

    results = run_ranks(work, tmp_path)
    if not differs:
        assert results == ["begun", "begun"]
    for result in results if differs else []:
        assert isinstance(result, TrainingError)
        assert "the adapter's weights at the start of rank 1 of 2 differ from those of rank 0" in str(result)
