"""A run's progress, step by step, as the server tells it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loraline.errors import ClusterAwayError
from pipelines.client.connection import Cluster
from pipelines.client.spec import step_labels

FINAL = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
"""States that a run does not leave by itself."""
_PATIENCE = 900.0  # seconds without an answer after which watching ends; a server's upgrade takes minutes
_DRIVER = "-driver"  # the engine prepares each step in a task of this name


@dataclass(frozen=True)
class Step:
    """One step of a run."""

    name: str
    """In the engine; what `loraline logs` takes."""
    label: str
    """For people."""
    state: str
    """waiting, starting, running, succeeded, failed, canceled or skipped."""
    seconds: float | None = None
    """From its start to its end, where both are known."""


def steps_of(run: Any, spec: Mapping[str, Any]) -> list[Step]:
    """The steps of a run in the order in which they can run.

    The server names a step's state and times only; what runs inside it is in its logs.
    """
    details = run.run_details.task_details if run.run_details else None
    tasks = {task.display_name: task for task in details or []}
    over = run.state in FINAL
    labels = step_labels(spec)
    return [_step(name, label, tasks.get(name), tasks.get(name + _DRIVER), over) for name, label in labels.items()]


def follow(
    cluster: Cluster,
    run: Any,
    spec: Mapping[str, Any],
    tell: Callable[[Step], None],
    warn: Callable[[str], None],
    every: float = 5.0,
) -> Any:
    """Watch a run to its end; returns the run as it ended (KFP's V2beta1Run).

    Args:
        cluster: where it runs.
        run: KFP's V2beta1Run.
        spec: its compiled pipeline.
        tell: called for each step whenever it starts or ends.
        warn: called once when the server stops answering; watching goes on.
        every: seconds between two looks.

    Raises:
        ClusterAwayError: the server has not answered for a quarter of an hour.
        ClusterError: it refuses, for one because the login has expired. The run itself goes on.
    """
    told: dict[str, str] = {}
    last_answer = time.monotonic()
    away = False
    while True:
        try:
            run = cluster.client.get_run(run.run_id)
        except ClusterAwayError as error:
            if time.monotonic() - last_answer > _PATIENCE:
                raise
            if not away:
                warn(f"{error} Still trying; the run does not depend on it.")
            away = True
        else:
            last_answer, away = time.monotonic(), False
            for step in steps_of(run, spec):
                if step.state != told.get(step.name, "waiting"):
                    tell(step)
                    told[step.name] = step.state
            if run.state in FINAL:
                return run
        time.sleep(every)


def duration(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds between two times of the server's, which says year 1 or 1970 for what has not happened."""
    if start is None or start.year <= 1970:
        return None
    if end is None or end.year <= 1970:
        end = datetime.now(UTC)
    return max(0.0, (end - start).total_seconds())


def _step(name: str, label: str, task: Any, driver: Any, over: bool) -> Step:
    if driver is not None and driver.state == "FAILED":
        return Step(name, label, "failed", duration(driver.start_time, driver.end_time))
    if task is None or task.state in (None, "RUNTIME_STATE_UNSPECIFIED"):
        return Step(name, label, "skipped" if over else "starting" if driver is not None else "waiting")
    if task.state in FINAL:
        return Step(name, label, task.state.lower(), duration(task.start_time, task.end_time))
    return Step(name, label, "running" if task.state == "RUNNING" else "starting")
