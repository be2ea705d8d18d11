"""Training in several processes of this machine, alone or together with those of other nodes.

They are processes of their own, because a CUDA context and a process group do not survive the failure of a rank.

torchrun is not used: on one machine its rendezvous listens on every interface, asks for no password, and unpickles what
it is sent. Here the processes of one machine meet in a file and speak over the loopback interface. Those of several
nodes meet at a TCPStore of the first, which holds plain bytes; who may reach it, the NetworkPolicy of
manifests/overlays/multi-node decides.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from loraline import errors
from loraline.errors import LoralineError, TrainingError
from loraline.training.config import TrainConfig

RENDEZVOUS = "LORALINE_RENDEZVOUS"
"""Environment variable of a process: where all meet, for `init_process_group`."""

_TERMINATION_SECONDS = 10.0  # KFP's grace period is 30 seconds
_SECONDS_BETWEEN_POLLS = 0.1


class WorkerJob(BaseModel):
    """Arguments of `train` that every process gets."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    config: TrainConfig
    model: Path
    dataset: Path
    output: Path
    checkpoints: str = ""


class NodePlace(BaseModel):
    """This node among those that train together."""

    model_config = ConfigDict(frozen=True)

    rank: int
    nodes: int
    rendezvous: str
    """`tcp://host:port`, on which the first process of the first node listens."""


class ProcessLostError(TrainingError):
    """A process was killed, or lost its peers: no error of the recipe, so that a retry may help."""


class ProcessFailure(BaseModel):
    """The error of the first process that failed."""

    type: str
    message: str


def error_file(job_file: Path) -> Path:
    """The file in which the first process that fails writes its error."""
    return job_file.with_name("error.json")


def train_in_processes(job: WorkerJob, processes: int, place: NodePlace | None = None) -> None:
    """Train in several processes, and wait for their end.

    They end with this process, however it ends: they read from a pipe that closes with it (worker.py).

    Args:
        job: arguments of the training.
        processes: number of processes on this machine.
        place: this node among several; None: all processes are on this machine.

    Raises:
        LoralineError: of the class that a process raised; ProcessLostError where that was another, or it was killed.
    """
    with tempfile.TemporaryDirectory(prefix="loraline-") as folder:
        job_file = Path(folder) / "job.json"
        job_file.write_text(job.model_dump_json())
        command = [sys.executable, "-m", "loraline.training.worker", str(job_file)]
        if status := run_processes(command, processes, Path(folder) / "rendezvous", place):
            raise _error(error_file(job_file), status)


def run_processes(command: Sequence[str], processes: int, meeting_file: Path, place: NodePlace | None = None) -> int:
    """Run a command in several processes until all have ended or one fails; then the others are ended.

    Args:
        command: program and arguments.
        processes: number of processes on this machine.
        meeting_file: a path, without a file, in a folder that nobody else may write to. Unused where `place` is given.
        place: this node among several.

    Returns:
        The exit status of the first that failed, or 0.
    """
    started: list[subprocess.Popen[bytes]] = []
    try:
        for local_rank in range(processes):
            environment = {**os.environ, **_environment(local_rank, processes, meeting_file, place)}
            # In a session of its own: Ctrl-C reaches this process alone, which ends the others in order.
            started.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True),
            )
        return _wait(started)
    finally:
        _terminate(started)


def _environment(local_rank: int, processes: int, meeting_file: Path, place: NodePlace | None) -> Mapping[str, str]:
    """The variables that `init_process_group` reads, and those that keep one machine's connections on loopback."""
    node, nodes = (place.rank, place.nodes) if place else (0, 1)
    variables = {
        "RANK": str(node * processes + local_rank),
        "WORLD_SIZE": str(nodes * processes),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(processes),
        RENDEZVOUS: place.rendezvous if place else f"file://{meeting_file}",
        # Each would use all cores.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes))),
    }
    if place is None:
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        variables |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    return variables


def _wait(processes: list[subprocess.Popen[bytes]]) -> int:
    while True:
        statuses = [process.poll() for process in processes]
        if failed := [status for status in statuses if status]:
            return failed[0]
        if all(status == 0 for status in statuses):
            return 0
        time.sleep(_SECONDS_BETWEEN_POLLS)


def _terminate(processes: list[subprocess.Popen[bytes]]) -> None:
    """Terminate those that still run, and kill what has not ended in time."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _TERMINATION_SECONDS
    try:
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def _error(file: Path, status: int) -> LoralineError:
    if not file.exists():
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return ProcessLostError(
            f"a training process ended without an error message ({how}): it was killed, or ran out of memory; see its "
            "output above"
        )
    failure = ProcessFailure.model_validate_json(file.read_text())
    error_class = getattr(errors, failure.type, None)
    if isinstance(error_class, type) and issubclass(error_class, LoralineError):
        return error_class(failure.message)
    return ProcessLostError(f"{failure.type}: {failure.message}")
