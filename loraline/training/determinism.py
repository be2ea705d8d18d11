"""The same bits again on a GPU, where kernels that add floats in any order are the default.

Strictly deterministic kernels are asked for, because with torch's `warn_only` FlashAttention's backward pass stays as
it is. Whether the model has them all is found out by a trial.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from loraline import progress

_MESSAGES = ("does not have a deterministic implementation", "CUBLAS_WORKSPACE_CONFIG")  # of torch's errors


def prepare_deterministic_algorithms() -> None:
    """Give cuBLAS the workspaces that make it deterministic; it reads the setting when it is first used."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic_algorithms(device: torch.device, trial: Callable[[], None]) -> Iterator[None]:
    """Compute with deterministic kernels on CUDA, as far as torch has them, until the context ends.

    Elsewhere kernels are deterministic by default, and nothing is changed.

    Args:
        device: where the model is.
        trial: does once what will be done; random numbers that it draws are given back.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    try:
        memory.fill_uninitialized_memory = False  # it costs time, and finds bugs alone
        use_deterministic_algorithms(trial)
        yield
    finally:
        memory.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def use_deterministic_algorithms(trial: Callable[[], None]) -> None:
    """Ask for deterministic kernels alone; where the trial needs others, for those that there are, and tell."""
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            trial()
    except RuntimeError as error:
        if not any(message in str(error) for message in _MESSAGES):
            raise
        torch.use_deterministic_algorithms(True, warn_only=True)
        progress.note(f"another run of this training can differ by rounding: {str(error).split('. ')[0]}")
