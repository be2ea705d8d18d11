"""Training in several processes of this machine, started by torchrun.

torchrun runs in a process of its own, because a CUDA context and a process group do not survive the failure of a rank.
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

_TERMINATION_SECONDS = 10.0  # torchrun itself waits 30 for its processes; KFP's grace period is no longer than that


class TorchrunJob(BaseModel):
    """Arguments of `train` that every process gets."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    config: TrainConfig
    model: Path
    dataset: Path
    output: Path
    checkpoints: str = ""


class ProcessLostError(TrainingError):
    """A process was killed, or lost its peers: no error of the recipe, so that a retry may help."""


class ProcessFailure(BaseModel):
    """The error of the first process that failed."""

    type: str
    message: str


def error_file(job_file: Path) -> Path:
    """The file in which the first process that fails writes its error."""
    return job_file.with_name("error.json")


def torchrun(job: TorchrunJob, processes: int, *rendezvous: str) -> None:
    """Train in processes that torchrun starts, and wait for their end.

    They end with this process, however it ends: they read from a pipe that closes with it (torchrun_worker.py).

    Args:
        job: arguments of the training.
        processes: number of processes on this machine.
        rendezvous: torchrun's options for how they find the processes on other machines.

    Raises:
        LoralineError: of the class that a process raised; ProcessLostError where that was another, or it was killed.
    """
    with tempfile.TemporaryDirectory(prefix="loraline-") as folder:
        job_file = Path(folder) / "job.json"
        job_file.write_text(job.model_dump_json())
        options = [f"--nproc-per-node={processes}", *rendezvous, "-m", "loraline.training.torchrun_worker"]
        process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *options, str(job_file)],
            stdin=subprocess.PIPE,
            # torchrun would set a single thread for each process.
            env={"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)), **os.environ},
        )
        try:
            status = process.wait()
        finally:
            _terminate(process)
        if status:
            raise _error(error_file(job_file), status)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    """Terminate torchrun, then kill it; its processes end when the pipe is closed."""
    assert process.stdin is not None
    try:
        if process.poll() is None:
            process.terminate()
            process.wait(_TERMINATION_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        process.stdin.close()


def _error(file: Path, status: int) -> LoralineError:
    if not file.exists():
        return ProcessLostError(
            f"a training process ended without an error message (torchrun's exit status is {status}): it was killed, "
            "or ran out of memory; see its output above"
        )
    failure = ProcessFailure.model_validate_json(file.read_text())
    error_class = getattr(errors, failure.type, None)
    if isinstance(error_class, type) and issubclass(error_class, LoralineError):
        return error_class(failure.message)
    return ProcessLostError(f"{failure.type}: {failure.message}")
