"""Run the pipeline on this machine, and show a person what happens."""

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

_SECONDS_TO_END = 5.0
_LAST_LINES = 15


@dataclass
class Step:
    """What became of one step of a run."""

    name: str
    state: str = "running"
    """running, done, cached or failed"""
    seconds: float = 0.0
    headline: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    """Folder of each artifact, value of each parameter"""
    error: str = ""


class Watcher(Protocol):
    """Whoever is told of a run as it goes."""

    def step_started(self, step: Step) -> None:
        """A step begins."""

    def progressed(self, step: Step, event: dict[str, Any]) -> None:
        """A step is at `event["done"]` of `event["total"]`, with `event["figures"]`."""

    def noted(self, text: str) -> None:
        """A step says something worth knowing."""

    def step_ended(self, step: Step) -> None:
        """A step has ended, in whatever state."""


class RunFailedError(LoralineError, RuntimeError):
    """A step of the run failed. The message says which, why, and where the log is."""


def new_run_folder(runs: Path, name: str) -> Path:
    """Make the folder of a new run, named by the moment and the recipe."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
    folder = runs / f"{stamp}-{name}"
    folder.mkdir(parents=True)
    return folder


def run_pipeline(
    parameters: Mapping[str, Any], folder: Path, home: Path, watcher: Watcher, pipeline: str = "finetune"
) -> list[Step]:
    """Run a pipeline with these parameters; its whole output goes to `folder`/pipeline.log.

    Returns the steps in the order in which they ran. An interrupt or a termination of this process ends
    the running step and everything that was started for it.

    Raises:
        RunFailedError: a step failed.
    """
    job = folder / "job.json"
    told = {"pipeline": pipeline, "home": str(home.absolute()), "parameters": dict(parameters)}
    job.write_text(json.dumps(told, indent=2))
    steps: list[Step] = []
    last_lines: deque[str] = deque(maxlen=_LAST_LINES)
    with _worker(job, run_id=folder.name) as process, (folder / "pipeline.log").open("w") as log:
        assert process.stdout is not None
        for line in process.stdout:
            if EVENT_MARK in line:
                _take(json.loads(line.split(EVENT_MARK, 1)[1]), steps, watcher)
            else:
                log.write(line)
                log.flush()
                if line.strip():
                    last_lines.append(line.rstrip())
        failed = process.wait() != 0
    if failed:
        raise RunFailedError(_reason(steps, last_lines, folder / "pipeline.log"))
    return steps


def _take(event: dict[str, Any], steps: list[Step], watcher: Watcher) -> None:
    """Take one event of the worker or of a step into account."""
    kind = event["kind"]
    if kind == "start":
        steps.append(Step(event["name"]))
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
    """The worker process, whose whole process group ends with the context."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pipelines.local.worker", str(job)],
        stdin=subprocess.PIPE,  # never written to: its end tells the worker that we are no more
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait starve each other on a busy machine
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
    """End the process and its group: politely, and after a while by force."""
    for send in (signal.SIGTERM, signal.SIGKILL):
        if not _signal_group(process.pid, send):
            break
        for _ in _ticks(_SECONDS_TO_END):
            process.poll()  # reaped, or the group would seem alive for ever
            if not _signal_group(process.pid, 0):
                break
    process.wait()


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _signal_group(leader: int, number: int) -> bool:
    """Signal a process group; returns whether there still was one."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of a group of zombies
        return False
    return True


def _ticks(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)


def _reason(steps: list[Step], last_lines: deque[str], log: Path) -> str:
    failed = next((step for step in steps if step.state in ("failed", "running")), None)
    where = f"step {failed.name} failed" if failed else "the pipeline failed outside its steps"
    if failed and failed.error:
        return f"{where}: {failed.error}\nThe whole log is {log}."
    tail = "\n".join(f"    {line}" for line in last_lines)
    silent = " without a word: it was killed, or ran out of memory" if failed else ""
    return f"{where}{silent}. The log {log} ends so:\n{tail}"
