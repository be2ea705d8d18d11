"""Run a pipeline on this machine in a process of its own, and report its progress to a watcher."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from loraline.errors import LoralineError
from loraline.progress import EVENT_MARK

_TERMINATION_SECONDS = 5.0
_LAST_LINES = 15


@dataclass
class LocalStep:
    """State and outputs of one step of a local run."""

    name: str
    state: str = "running"
    """running, done, cached or failed."""
    seconds: float = 0.0
    headline: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    """Folder of each artifact, value of each parameter."""
    error: str = ""


class Watcher(Protocol):
    """Receives the events of a run."""

    def step_started(self, step: LocalStep) -> None:
        """A step has started."""

    def progressed(self, step: LocalStep, event: dict[str, Any]) -> None:
        """A step has done `event["done"]` of `event["total"]`, with the metrics `event["figures"]`."""

    def noted(self, text: str) -> None:
        """A step has written a note."""

    def step_ended(self, step: LocalStep) -> None:
        """A step has ended, in any state."""


class RunFailedError(LoralineError, RuntimeError):
    """A step of the run failed. The message has the step, the reason and the path of the log."""


def new_run_folder(runs: Path, name: str) -> Path:
    """Create the folder of a new run, named after the time and the recipe."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
    folder = runs / f"{stamp}-{name}"
    folder.mkdir(parents=True)
    return folder


def run_pipeline(
    parameters: Mapping[str, Any], folder: Path, home: Path, watcher: Watcher, pipeline: str = "finetune"
) -> list[LocalStep]:
    """Run a pipeline with these parameters; its output is written to `folder`/pipeline.log.

    Returns the steps in the order in which they ran. An interrupt or termination of this process ends
    the running step and all processes that were started for it.

    Raises:
        RunFailedError: a step failed.
    """
    job = folder / "job.json"
    request = {"pipeline": pipeline, "home": str(home.absolute()), "parameters": dict(parameters)}
    job.write_text(json.dumps(request, indent=2))
    steps: list[LocalStep] = []
    last_lines: deque[str] = deque(maxlen=_LAST_LINES)
    with _worker(job, run_id=folder.name) as process, (folder / "pipeline.log").open("w") as log:
        assert process.stdout is not None
        for line in process.stdout:
            if EVENT_MARK in line:
                _handle(json.loads(line.split(EVENT_MARK, 1)[1]), steps, watcher)
            else:
                log.write(line)
                log.flush()
                if line.strip():
                    last_lines.append(line.rstrip())
        failed = process.wait() != 0
    if failed:
        raise RunFailedError(_failure(steps, last_lines, folder / "pipeline.log"))
    return steps


def _handle(event: dict[str, Any], steps: list[LocalStep], watcher: Watcher) -> None:
    """Handle one event of the worker process or of a step."""
    kind = event["kind"]
    if kind == "start":
        steps.append(LocalStep(event["name"]))
        watcher.step_started(steps[-1])
    elif kind == "end":
        steps[-1].state, steps[-1].seconds, steps[-1].outputs = (
            event["state"],
            event["seconds"],
            event["outputs"],
        )
        watcher.step_ended(steps[-1])
    elif kind == "progress":
        watcher.progressed(steps[-1], event)
    elif kind == "headline":
        steps[-1].headline = event["text"]
    elif kind == "error":
        steps[-1].error = event["message"]
    elif kind == "note":
        watcher.noted(event["text"])


@contextmanager
def _worker(job: Path, run_id: str) -> Iterator[subprocess.Popen[str]]:
    """The worker process; its whole process group is ended with the context."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pipelines.local.kfp_worker", str(job)],
        stdin=subprocess.PIPE,  # never written to: when it closes, the worker knows that this process has ended
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that busy-wait starve each other on a loaded machine
            **os.environ,
            "LORALINE_EVENTS": "1",
            "LORALINE_RUN_ID": run_id,
            "PYTHONUNBUFFERED": "1",
        },
        start_new_session=True,
    )
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield process
    finally:
        signal.signal(signal.SIGTERM, before)
        _end_group(process)


def _end_group(process: subprocess.Popen[str]) -> None:
    """Terminate the process and its group, and kill them if they do not end in time."""
    for send in (signal.SIGTERM, signal.SIGKILL):
        if not _signal_group(process.pid, send):
            break
        for _ in _ticks(_TERMINATION_SECONDS):
            process.poll()  # reap it, or the group would appear to be alive for ever
            if not _signal_group(process.pid, 0):
                break
    process.wait()


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _signal_group(leader: int, number: int) -> bool:
    """Signal a process group; returns whether it still exists."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS raises this for a group of zombies
        return False
    return True


def _ticks(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)


def _failure(steps: list[LocalStep], last_lines: deque[str], log: Path) -> str:
    failed = next((step for step in steps if step.state in ("failed", "running")), None)
    where = f"step {failed.name} failed" if failed else "the pipeline failed outside its steps"
    if failed and failed.error:
        return f"{where}: {failed.error}\nThe full log is {log}."
    tail = "\n".join(f"    {line}" for line in last_lines)
    silent = " without an error message: it was killed, or ran out of memory" if failed else ""
    return f"{where}{silent}. The log {log} ends with:\n{tail}"
