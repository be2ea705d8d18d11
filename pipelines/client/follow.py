"""Follow a run on the server, step by step."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loraline.errors import ClusterAwayError
from pipelines.client.connection import Cluster
from pipelines.client.spec import step_labels

FINAL = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
"""States in which a run has ended."""
_PATIENCE = 900.0  # seconds without an answer after which polling ends; upgrading a server takes minutes
_DRIVER = "-driver"  # suffix of the task in which KFP prepares a step


@dataclass(frozen=True)
class ClusterStep:
    """The state of one step of a run."""

    name: str
    """The task's name in KFP; what `loraline logs` takes."""
    label: str
    """The display name."""
    state: str
    """waiting, starting, running, succeeded, failed, canceled or skipped."""
    seconds: float | None = None
    """Duration, where start and end are known."""


def steps_of(run: Any, spec: Mapping[str, Any]) -> list[ClusterStep]:
    """The steps of a run in topological order.

    The server reports each step's state and times only; its output is in its logs.
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
    on_change: Callable[[ClusterStep], None],
    on_warning: Callable[[str], None],
    interval: float = 5.0,
) -> Any:
    """Poll a run until it ends; returns the run in its final state (KFP's V2beta1Run).

    Args:
        cluster: the server.
        run: KFP's V2beta1Run.
        spec: its compiled pipeline.
        on_change: called with a step when its state changes.
        on_warning: called once when the server stops answering; polling continues.
        interval: seconds between two requests.

    Raises:
        ClusterAwayError: the server has not answered for a quarter of an hour.
        ClusterError: the server refuses, for example because the login has expired. The run itself continues.
    """
    states: dict[str, str] = {}
    last_answer = time.monotonic()
    away = False
    while True:
        try:
            run = cluster.client.get_run(run.run_id)
        except ClusterAwayError as error:
            if time.monotonic() - last_answer > _PATIENCE:
                raise
            if not away:
                on_warning(f"{error} Still trying; the run does not depend on it.")
            away = True
        else:
            last_answer, away = time.monotonic(), False
            for step in steps_of(run, spec):
                if step.state != states.get(step.name, "waiting"):
                    on_change(step)
                    states[step.name] = step.state
            if run.state in FINAL:
                return run
        time.sleep(interval)


def duration(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds between two times of the server, which sends year 1 or 1970 for what has not happened yet."""
    if start is None or start.year <= 1970:
        return None
    if end is None or end.year <= 1970:
        end = datetime.now(UTC)
    return max(0.0, (end - start).total_seconds())


def _step(name: str, label: str, task: Any, driver: Any, over: bool) -> ClusterStep:
    if driver is not None and driver.state == "FAILED":
        return ClusterStep(name, label, "failed", duration(driver.start_time, driver.end_time))
    if task is None or task.state in (None, "RUNTIME_STATE_UNSPECIFIED"):
        return ClusterStep(name, label, "skipped" if over else "starting" if driver is not None else "waiting")
    if task.state in FINAL:
        return ClusterStep(name, label, task.state.lower(), duration(task.start_time, task.end_time))
    return ClusterStep(name, label, "running" if task.state == "RUNNING" else "starting")
