"""Data parallel training: which packed rows each process computes, and the reduction of gradients and metrics.

Each process (a rank) has its own copy of the frozen base model and the adapter, and computes its shard of the packed
rows of an optimizer step. Gradients are summed over all ranks in one all-reduce per step, and every rank does the same
optimizer step. What a step trains on does not depend on the number of processes, so that its loss differs only by the
order in which floats are added.

In a single process every method returns at once, without communication.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from loraline import progress
from loraline.errors import TrainingError

# How long a rank waits for the others: at first until all nodes have downloaded the model.
_TIMEOUT = timedelta(hours=1)

T = TypeVar("T")


@dataclass(frozen=True)
class Distributed:
    """The processes that train together, from the view of one of them."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this process saves checkpoints, tracks metrics and writes the results."""
        return self.rank == 0

    def shard(self, rows: Sequence[T]) -> list[T]:
        """Return the rows that this rank computes."""
        return list(rows[self.rank :: self.world_size])

    def seed_step(self, seed: int, step: int) -> None:
        """Seed this rank's random numbers (dropout) from seed, step and rank alone."""
        if self.world_size > 1:
            torch.manual_seed((seed * 1_000_003 + step) * self.world_size + self.rank)

    def all_reduce_gradients(
        self, parameters: list[nn.Parameter], loss: Tensor, padded_tokens: int
    ) -> tuple[Tensor, int]:
        """Sum gradients (in place), loss and number of padded tokens over all ranks, in one message.

        A weight that has no gradient on any rank keeps none; a rank without rows in this step adds zeros.
        """
        if self.world_size == 1:
            return loss, padded_tokens
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        has_gradient = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=loss.device)
        metrics = torch.stack([loss, loss.new_tensor(float(padded_tokens))])
        message = torch.cat([metrics, has_gradient, *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(message)
        metrics, has_gradient, flat = message.split([2, len(parameters), len(message) - 2 - len(parameters)])
        parts = flat.split([gradient.numel() for gradient in gradients])
        for p, gradient, part, on_any_rank in zip(parameters, gradients, parts, has_gradient.tolist(), strict=True):
            p.grad = gradient.copy_(part.view_as(gradient)) if on_any_rank else None
        return metrics[0], round(float(metrics[1]))

    def all_reduce(self, value: float) -> float:
        """Return the sum of a value over all ranks, bitwise the same on each."""
        if self.world_size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total)

    def broadcast(self, make: Callable[[], T]) -> T:
        """Return on every rank what `make` returns in the main process; the others do not call it.

        Only tensors and plain values can be sent: what is received is never unpickled, so that no peer can run code.
        """
        if self.world_size == 1:
            return make()
        content = _to_bytes(make()) if self.is_main_process else torch.empty(0, dtype=torch.uint8)
        size = torch.tensor(len(content))
        dist.broadcast(size, src=0)
        if not self.is_main_process:
            content = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(content, src=0)
        return cast(T, _from_bytes(content))

    def note_idle_processes(self, max_rows_per_step: int) -> None:
        """Print a note where the dataset is too small to occupy all processes."""
        if max_rows_per_step < self.world_size:
            idle = self.world_size - max_rows_per_step
            progress.note(
                f"no optimizer step has more than {max_rows_per_step} packed rows: {idle} of {self.world_size} "
                "processes are idle"
            )

    def require_same(self, what: str, digest: bytes) -> None:
        """Raise TrainingError unless all ranks have the same digest of something."""
        if self.world_size == 1:
            return
        mine = torch.frombuffer(bytearray(digest), dtype=torch.uint8)
        digests = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(digests, mine)
        others = [rank for rank, one in enumerate(digests) if not torch.equal(one, digests[0])]
        if others:
            raise TrainingError(
                f"the {what} of rank {', '.join(map(str, others))} of {self.world_size} differ from those of rank 0, "
                "so that each would train a model of its own: give all nodes the same image, kind of GPU and files"
            )


def _to_bytes(value: object) -> Tensor:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)


def _from_bytes(content: Tensor) -> object:
    return torch.load(io.BytesIO(content.numpy().tobytes()), map_location="cpu", weights_only=True)


SINGLE_PROCESS = Distributed()


@contextmanager
def init_process_group(rendezvous: str) -> Iterator[Distributed]:
    """Join the process group of the processes that `run_processes` started, until the context ends.

    Each process uses a GPU of its own where the machine has enough of them (NCCL), else reductions run on the CPU
    (gloo). After an error the process group is not destroyed, because that would wait for ranks that may be in the
    middle of a reduction: the process that started all ends them.

    Args:
        rendezvous: where the processes meet, as torch's `init_method`.
    """
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % gpus)
    one_gpu_each = gpus >= int(os.environ["LOCAL_WORLD_SIZE"])
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if one_gpu_each else "gloo",
        init_method=rendezvous,
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=_TIMEOUT,
    )
    yield Distributed(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()
