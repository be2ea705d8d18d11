"""MLflow: one tree of runs for a pipeline run, and never a reason for a step to fail or to wait.

A thread of its own sends what is logged, in batches, and tries again while the server is away; what has
not gone when a tracker is closed is in `Tracker.unsent`, for the step to keep in its output.

Whose run it is:

- KFP's MLflow plugin gives every task a run (MLFLOW_RUN_ID) below one of the pipeline's: both are adopted;
- a run in MLFLOW_RUN_ID that has no parent is adopted as the pipeline's;
- otherwise the pipeline's run is the one tagged `loraline.run_id` = LORALINE_RUN_ID in the experiment
  MLFLOW_EXPERIMENT_NAME, found or made, and each step has one below it, found again when a step is retried.

Without MLFLOW_TRACKING_URI nothing is tracked.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.shared import progress
from components.shared.errors import StorageError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Status = Literal["FINISHED", "FAILED", "KILLED"]

RUN_ID_TAG = "loraline.run_id"
STEP_TAG = "loraline.step"
DEFAULT_EXPERIMENT = "loraline"

_PARENT_TAG = "mlflow.parentRunId"
_SECONDS_BETWEEN_SENDS = 2.0
_LONGEST_PAUSE_SECONDS = 30.0  # between two tries while the server is away
_SECONDS_TO_CLOSE = 10.0
_BATCH = 100  # MLflow takes at most 100 params, 100 tags and 1000 metrics in a request
_METRICS_BATCH = 800
_GIVEN_RUN_ID = uuid.uuid4().hex  # of this process, where nobody has named the pipeline run


@dataclass(frozen=True)
class _Place:
    """Where figures go: a run, the pipeline's run (the same, for the pipeline's own tracker), and whether
    Loraline made them and so has to end them."""

    run_id: str
    parent_id: str
    ours: bool


@dataclass
class _Buffer:
    """What is not sent yet. Metrics: (name, value, milliseconds since 1970, step)."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)
    artifacts: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.params or self.tags or self.metrics or self.artifacts)


class Tracker:
    """Takes figures for one MLflow run, and sends them when it can. Nothing here raises or waits but `close`."""

    def __init__(self, find_place: "Callable[[MlflowClient], _Place] | None", name: str) -> None:
        self._find_place = find_place
        self._name = name
        self._place: _Place | None = None
        self._client: MlflowClient | None = None
        self._buffer = _Buffer()
        self._refused = _Buffer()
        self._lock = threading.Lock()
        self._placed = threading.Event()
        self._closing = threading.Event()
        self._done = threading.Event()
        self._deadline = 0.0
        self._status: Status | None = None
        self._parent_status: Status | None = None
        self._ended = False
        self._warned = False
        if find_place is None:
            self._done.set()
        else:
            threading.Thread(target=self._work, name=f"mlflow {name}", daemon=True).start()

    def params(self, params: Mapping[str, Any]) -> None:
        """Log settings. MLflow refuses to change one that is logged already."""
        if self._find_place:
            with self._lock:
                self._buffer.params.update({key: str(value) for key, value in params.items()})

    def metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log figures of an optimizer step (0 where there is no such thing)."""
        if self._find_place:
            now = time.time_ns() // 1_000_000
            with self._lock:
                self._buffer.metrics.extend(
                    (name, float(value), now, step) for name, value in metrics.items()
                )

    def tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; a later value replaces an earlier one."""
        if self._find_place:
            with self._lock:
                self._buffer.tags.update({key: str(value) for key, value in tags.items()})

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file, or what is in a folder, under `folder` of the run's artifacts. It must stay until `close`."""
        if self._find_place:
            with self._lock:
                self._buffer.artifacts.append((str(path), folder))

    def run_id(self, wait_seconds: float = _SECONDS_TO_CLOSE) -> str:
        """The MLflow run's id, or "" where there is none or the server has not answered in time."""
        if self._find_place:
            self._placed.wait(wait_seconds)
        return self._place.run_id if self._place else ""

    def close(self, status: Status | None = None, parent_status: Status | None = None) -> None:
        """Send what is left, for at most ten seconds, and end the run, and the pipeline's, where a status is given."""
        if self._done.is_set():
            return
        self._status, self._parent_status = status, parent_status
        self._deadline = time.monotonic() + _SECONDS_TO_CLOSE
        self._closing.set()
        self._done.wait(_SECONDS_TO_CLOSE + 0.5)
        if self.unsent:
            progress.note(
                f"MLflow has not got everything of {self._name}: {self._counts()} stay in the evidence"
            )

    @property
    def unsent(self) -> dict[str, Any]:
        """What could not be sent, as JSON types; empty when all has gone."""
        with self._lock:
            both = (self._buffer, self._refused)
            found = {
                "params": {key: value for part in both for key, value in part.params.items()},
                "tags": {key: value for part in both for key, value in part.tags.items()},
                "metrics": [list(metric) for part in both for metric in part.metrics],
                "artifacts": [path for part in both for path, _ in part.artifacts],
            }
        return {kind: values for kind, values in found.items() if values}

    def _counts(self) -> str:
        return ", ".join(f"{len(values)} {kind}" for kind, values in self.unsent.items())

    def _work(self) -> None:
        """The thread's life: send every two seconds, less often while the server is away, at the end until all is gone."""
        pause = 0.0
        while not self._closing.wait(pause):
            pause = (
                _SECONDS_BETWEEN_SENDS
                if self._try_to_send()
                else min(max(1.0, 2 * pause), _LONGEST_PAUSE_SECONDS)
            )
        pause = 0.25
        while not self._try_to_send() and time.monotonic() + pause < self._deadline:
            time.sleep(pause)
            pause *= 2
        self._done.set()

    def _try_to_send(self) -> bool:
        """Send all there is. False: the server is away, try again."""
        try:
            self._send()
        except Exception as error:  # whatever a server, a database driver or an artifact store may raise
            # A thread has nobody to raise to, and a figure that is late is no reason to stop training: it
            # stays in the buffer, and what is still there at the end is reported by `unsent`.
            if not self._warned:
                self._warned = True
                first_line = str(error).strip().split("\n")[0][:200]
                progress.note(
                    f"MLflow at {_tracking_uri()} is away ({first_line}); going on, figures are kept for later"
                )
            return False
        self._warned = False
        return True

    def _send(self) -> None:
        if self._client is None:
            self._client = _make_client()
        if self._place is None:
            assert self._find_place is not None
            self._place = self._find_place(self._client)
            self._placed.set()
        while self._buffer:
            self._send_batch(self._client, self._place.run_id)
        if self._closing.is_set() and not self._ended and self._place.ours:
            if self._status:
                self._client.set_terminated(self._place.run_id, self._status)
            if self._parent_status:
                self._client.set_terminated(self._place.parent_id, self._parent_status)
            self._ended = True

    def _send_batch(self, client: "MlflowClient", run_id: str) -> None:
        """Send some of the buffer; take it out once the server has it, or has said that it never will."""
        from mlflow.entities import Metric, Param, RunTag

        with self._lock:
            params = dict(list(self._buffer.params.items())[:_BATCH])
            tags = dict(list(self._buffer.tags.items())[:_BATCH])
            metrics = self._buffer.metrics[:_METRICS_BATCH]
            artifacts = self._buffer.artifacts[:1]
        if metrics or tags:
            sent = [Metric(name, value, when, step) for name, value, when, step in metrics]
            self._offer(
                lambda: client.log_batch(run_id, metrics=sent, tags=[RunTag(*tag) for tag in tags.items()]),
                _Buffer(tags=tags, metrics=metrics),
            )
        if params:
            self._offer(
                lambda: client.log_batch(run_id, params=[Param(*param) for param in params.items()]),
                _Buffer(params=params),
            )
        for path, folder in artifacts:
            self._offer(lambda: _log_artifact(client, run_id, path, folder), _Buffer(artifacts=artifacts))

    def _offer(self, send: Callable[[], Any], part: _Buffer) -> None:
        """Send a part of the buffer. What the server refuses as invalid is set aside: to repeat it is of no use."""
        from mlflow.exceptions import MlflowException

        try:
            send()
        except (MlflowException, FileNotFoundError, ImportError) as error:
            if isinstance(error, MlflowException) and not 400 <= error.get_http_status_code() < 500:
                raise
            progress.note(f"MLflow does not take something of {self._name}: {str(error).strip()[:300]}")
            self._refused.params.update(part.params)
            self._refused.tags.update(part.tags)
            self._refused.metrics.extend(part.metrics)
            self._refused.artifacts.extend(part.artifacts)
        with self._lock:
            for kept, gone in ((self._buffer.params, part.params), (self._buffer.tags, part.tags)):
                for key, value in gone.items():
                    if kept.get(key) == value:
                        del kept[key]
            del self._buffer.metrics[: len(part.metrics)]
            del self._buffer.artifacts[: len(part.artifacts)]


def parent_run() -> Tracker:
    """Track into the pipeline's own run. Leaving it open does no harm; `close` it to be sure that all was sent."""
    return Tracker(_find_parent if _is_wanted() else None, "the pipeline run")


@contextmanager
def child_run(name: str) -> Iterator[Tracker]:
    """Track into a step's run below the pipeline's, from here to the end of the context.

    An error that passes through marks the step's run and the pipeline's as failed; a later, successful try
    of the step takes the same run up again.
    """
    tracker = Tracker((lambda client: _find_child(client, name)) if _is_wanted() else None, name)
    try:
        yield tracker
    except Exception as error:
        tracker.tags({"loraline.error": f"{type(error).__name__}: {error}"[:1000]})
        tracker.close("FAILED", parent_status="FAILED")
        raise
    except BaseException:
        tracker.close("KILLED", parent_status="KILLED")
        raise
    tracker.close("FINISHED")


def connect() -> "MlflowClient":
    """Make a client for the model registry, which has to be there: no buffer helps.

    Raises:
        StorageError: MLFLOW_TRACKING_URI is not set.
    """
    if not _tracking_uri():
        raise StorageError(
            "no model registry: MLFLOW_TRACKING_URI is not set. `loraline run` keeps one in a sqlite file; "
            "elsewhere set it to your MLflow server's address."
        )
    return _make_client()


def _tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


_said_that_nothing_is_tracked = False


def _is_wanted() -> bool:
    global _said_that_nothing_is_tracked  # noqa: PLW0603
    if not _tracking_uri() and not _said_that_nothing_is_tracked:
        _said_that_nothing_is_tracked = True
        progress.note("MLFLOW_TRACKING_URI is not set: nothing is tracked in MLflow")
    return bool(_tracking_uri())


def _make_client() -> "MlflowClient":
    """Make a client that gives up within seconds, phones nobody, and keeps its chatter to itself."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a line for each table of a new database
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # a line for each retry
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=_tracking_uri())


def _log_artifact(client: "MlflowClient", run_id: str, path: str, folder: str) -> None:
    if Path(path).is_dir():
        client.log_artifacts(run_id, path, folder or None)
    else:
        client.log_artifact(run_id, path, folder or None)


def _find_parent(client: "MlflowClient") -> _Place:
    adopted = _adopted(client)
    if adopted:
        return _Place(adopted.parent_id, adopted.parent_id, ours=False)
    name = os.environ.get("LORALINE_RUN_ID") or _GIVEN_RUN_ID
    experiment = _experiment(client)
    run = _find_or_make(client, experiment, {RUN_ID_TAG: name, STEP_TAG: "pipeline"}, name)
    return _Place(run, run, ours=True)


def _find_child(client: "MlflowClient", name: str) -> _Place:
    adopted = _adopted(client)
    if adopted and adopted.run_id != adopted.parent_id:
        return adopted  # KFP has made a run for this very task, and will end it
    parent = client.get_run(_find_parent(client).run_id)
    tags = {_PARENT_TAG: parent.info.run_id, STEP_TAG: name}
    run = _find_or_make(client, parent.info.experiment_id, tags, name)
    return _Place(run, parent.info.run_id, ours=True)


def _adopted(client: "MlflowClient") -> _Place | None:
    given = os.environ.get("MLFLOW_RUN_ID")
    if not given:
        return None
    return _Place(given, client.get_run(given).data.tags.get(_PARENT_TAG, given), ours=False)


def _experiment(client: "MlflowClient") -> str:
    """The experiment's id; it is made, with its artifacts at LORALINE_ARTIFACTS where that is set, if not there."""
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    try:
        return client.create_experiment(name, artifact_location=os.environ.get("LORALINE_ARTIFACTS") or None)
    except MlflowException:
        made_meanwhile = client.get_experiment_by_name(name)  # by a step that runs beside this one
        if made_meanwhile is None:
            raise
        return made_meanwhile.experiment_id


def _find_or_make(client: "MlflowClient", experiment: str, tags: dict[str, str], name: str) -> str:
    """The id of the run with these tags, running; made where there is none, and only one where two steps race."""
    found = _search(client, experiment, tags)
    if not found:
        made = client.create_run(experiment, tags=tags, run_name=name)
        found = _search(client, experiment, tags) or [made]
        if found[0].info.run_id != made.info.run_id:
            client.delete_run(made.info.run_id)
    run = found[0]
    if run.info.status != "RUNNING":
        client.update_run(run.info.run_id, status="RUNNING")
    return run.info.run_id


def _search(client: "MlflowClient", experiment: str, tags: dict[str, str]) -> "list[Run]":
    """The runs with these tags, the first made first."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return sorted(
        client.search_runs([experiment], wanted), key=lambda run: (run.info.start_time, run.info.run_id)
    )
