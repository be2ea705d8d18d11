"""Training shared out among processes: which rows each of them takes, and how their sums come together.

Data parallel: each process (a rank) has the frozen base and the adapter to itself, and computes its share of a step's
packed rows. The adapter's gradients are summed over the ranks, in one message for each step, and every rank makes
the same move. What a step trains on does not change with the number of processes, so its loss differs only by the
order in which floats are added up.

A single process takes no part in any of this: for it each function here returns at once.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from loraline import progress
from loraline.errors import ConfigurationError
from loraline.training.config import TrainConfig

# Longest that ranks wait for one another: the first one stores checkpoints while the others go on to the next sum.
_PATIENCE = timedelta(hours=1)

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, as one of them sees them."""

    number: int = 0
    """Which of them this is, from 0."""
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that keeps checkpoints, reports and writes."""
        return self.number == 0

    def share(self, rows: Sequence[T]) -> list[T]:
        """The rows that this rank takes."""
        return list(rows[self.number :: self.count])

    def seed(self, seed: int, step: int) -> None:
        """Give this rank random numbers of its own, which depend on seed, step and rank alone."""
        if self.count > 1:
            torch.manual_seed((seed * 1_000_003 + step) * self.count + self.number)

    def add_up(self, weights: list[nn.Parameter], loss: Tensor, places: int) -> tuple[Tensor, int]:
        """Sum gradients (in place), loss and places over all ranks, in one message.

        A weight that no rank has a gradient for keeps none; a rank without a share of the step adds nothing.
        """
        if self.count == 1:
            return loss, places
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
        there = torch.tensor([p.grad is not None for p in weights], dtype=torch.float32, device=loss.device)
        figures = torch.stack([loss, loss.new_tensor(float(places))])
        message = torch.cat([figures, there, *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(message)
        figures, there, flat = message.split([2, len(weights), len(message) - 2 - len(weights)])
        parts = flat.split([gradient.numel() for gradient in gradients])
        for p, gradient, part, anywhere in zip(weights, gradients, parts, there.tolist(), strict=True):
            p.grad = gradient.copy_(part.view_as(gradient)) if anywhere else None
        return figures[0], round(float(figures[1]))

    def total(self, figure: float) -> float:
        """The sum of a figure over all ranks, the same to the bit on each."""
        if self.count == 1:
            return figure
        summed = torch.tensor(figure, dtype=torch.float64)
        dist.all_reduce(summed)
        return float(summed)

    def from_leader(self, make: Callable[[], T]) -> T:
        """What the leader makes, on every rank; the others do not make it."""
        if self.count == 1:
            return make()
        sent: list[Any] = [make() if self.leads else None]
        dist.broadcast_object_list(sent, src=0, device=torch.device("cpu"))
        return sent[0]

    def note_idle(self, most_rows: int) -> None:
        """Say so where the dataset is too small for all to have something to do."""
        if most_rows < self.count:
            idle = self.count - most_rows
            progress.note(f"no step has more than {most_rows} packed rows: {idle} of {self.count} processes are idle")

    def check_work(self, config: TrainConfig) -> None:
        """Raises ConfigurationError where there are more processes than a step can have packed rows."""
        rows_in_step = config.batch_size * config.gradient_accumulation_steps
        if rows_in_step < self.count:
            raise ConfigurationError(
                f"an optimizer step has {rows_in_step} packed rows (training.batch_size x "
                f"training.gradient_accumulation_steps), too few for {self.count} processes (nodes x GPUs of each); "
                "raise one of the two, or use fewer processes"
            )


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that torchrun has started along with this one, until the context ends.

    Each takes a GPU of its own where the machine has one for each (NCCL); else sums go by the CPU (gloo). After an
    error the others are not waited for, who may be in the middle of a sum: torchrun ends them.
    """
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % gpus)
    own_gpu = gpus >= int(os.environ["LOCAL_WORLD_SIZE"])
    dist.init_process_group("cpu:gloo,cuda:nccl" if own_gpu else "gloo", timeout=_PATIENCE)
    yield Ranks(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()
