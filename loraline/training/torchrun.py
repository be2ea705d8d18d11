"""Training in several processes of this machine: what they are told, and torchrun, which starts them.

Run in a process of its own, because a CUDA context and a process group do not survive the failure of a peer.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from loraline import errors
from loraline.errors import LoralineError, TrainingError
from loraline.training.config import TrainConfig

_SECONDS_TO_END = 10.0  # torchrun itself gives the processes thirty; KFP's grace period is no longer than that


class Job(BaseModel):
    """What `train` is called with, as far as each process needs it."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    config: TrainConfig
    model: Path
    dataset: Path
    output: Path
    checkpoints: str = ""
    code: str = ""


class BrokenOffError(TrainingError):
    """A process was killed, or lost another: not an error of the recipe's, so that another try may help."""


class Failure(BaseModel):
    """The error that the first process to fail has left."""

    type: str
    message: str


def error_file(job_file: Path) -> Path:
    """Where the processes of a job leave what went wrong."""
    return job_file.with_name("error.json")


def torchrun(job: Job, processes: int, *rendezvous: str) -> None:
    """Train in processes that torchrun starts, and wait for their end.

    However this process ends, so do they: they read its end of a pipe (worker.py).

    Args:
        job: what to train.
        processes: how many on this machine.
        rendezvous: torchrun's options for how they find those on other machines.

    Raises:
        LoralineError: of the class that one of them raised; BrokenOffError where it raised another, or was killed.
    """
    with tempfile.TemporaryDirectory(prefix="loraline-") as folder:
        job_file = Path(folder) / "job.json"
        job_file.write_text(job.model_dump_json())
        options = [f"--nproc-per-node={processes}", *rendezvous, "-m", "loraline.training.torchrun_worker"]
        process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *options, str(job_file)],
            stdin=subprocess.PIPE,
            # torchrun would give each process a single thread.
            env={"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)), **os.environ},
        )
        try:
            status = process.wait()
        finally:
            _end(process)
        if status:
            raise _reason(error_file(job_file), status)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End torchrun politely, then by force; its processes then see that the pipe is closed."""
    assert process.stdin is not None
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        process.stdin.close()


def _reason(left: Path, status: int) -> LoralineError:
    if not left.exists():
        return BrokenOffError(
            f"a training process ended without a word (torchrun's status is {status}): it was killed, or ran out of "
            "memory; what it printed stands above"
        )
    failure = Failure.model_validate_json(left.read_text())
    known = getattr(errors, failure.type, None)
    if isinstance(known, type) and issubclass(known, LoralineError):
        return known(failure.message)
    return BrokenOffError(f"{failure.type}: {failure.message}")
