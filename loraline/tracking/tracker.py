"""MLflow: one tree of runs for a pipeline run, and never a reason for a step to fail or to wait.

A thread of its own sends what is logged, in batches, and tries again while the server is away; what has
not gone when a tracker is closed is in `Tracker.unsent`, for the step to keep in its output.
`mlflow_runs` says which run is whose. Without MLFLOW_TRACKING_URI nothing is tracked.
"""

import importlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loraline import progress
from loraline.errors import StorageError
from loraline.tracking.database import make_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from loraline.tracking.mlflow_runs import Place

Status = Literal["FINISHED", "FAILED", "KILLED"]

_SECONDS_BETWEEN_SENDS = 2.0
_LONGEST_PAUSE_SECONDS = 30.0  # between two tries while the server is away
_SECONDS_TO_CLOSE = 5.0
_SECONDS_OF_A_TRY = 30.0  # a first request may find that a database has its tables to make
_SECONDS_FOR_A_RUN = 10.0
_BATCH = 100  # MLflow takes at most 100 params, 100 tags and 1000 metrics in a request
_METRICS_BATCH = 800
_SQL_STORES = ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store")


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
    """Takes figures for one MLflow run and sends them when it can. Nothing raises, and only `close` waits."""

    def __init__(self, find_place: "Callable[[MlflowClient], Place] | None", name: str) -> None:
        self._find_place = find_place
        self._name = name
        self._place: Place | None = None
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

    def params(self, values: Mapping[str, Any]) -> None:
        """Log settings. MLflow refuses to change one that is logged already."""
        if self._find_place:
            with self._lock:
                self._buffer.params.update({key: str(value) for key, value in values.items()})

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log figures of an optimizer step (0 where there is no such thing)."""
        if self._find_place:
            now = time.time_ns() // 1_000_000
            with self._lock:
                self._buffer.metrics.extend((name, float(value), now, step) for name, value in values.items())

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; a later value replaces an earlier one."""
        if self._find_place:
            with self._lock:
                self._buffer.tags.update({key: str(value) for key, value in values.items()})

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file, or a folder's files, under `folder` of the artifacts; it must stay until `close`."""
        if self._find_place:
            with self._lock:
                self._buffer.artifacts.append((str(path), folder))

    def run_id(self, wait_seconds: float = _SECONDS_FOR_A_RUN) -> str:
        """The MLflow run's id, or "" where there is none or the server has not answered in time."""
        if self._find_place:
            self._placed.wait(wait_seconds)
        return self._place.run_id if self._place else ""

    def close(self, status: Status | None = None, parent_status: Status | None = None) -> None:
        """Send what is left; end the run, and the pipeline's, where a status is given.

        It tries for five seconds, and lets the try that is under way come to its end.
        """
        if self._done.is_set():
            return
        self._status, self._parent_status = status, parent_status
        self._deadline = time.monotonic() + _SECONDS_TO_CLOSE
        self._closing.set()
        self._done.wait(_SECONDS_TO_CLOSE + _SECONDS_OF_A_TRY)
        if self.unsent:
            progress.note(f"MLflow has not got {self._counts()} of {self._name}; they stay in the step's output")

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
        """Send every two seconds, less often while the server is away, and at the end until all is gone."""
        pause = 0.0
        while not self._closing.wait(pause):
            pause = _SECONDS_BETWEEN_SENDS if self._try_to_send() else min(max(1.0, 2 * pause), _LONGEST_PAUSE_SECONDS)
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
                away = f"MLflow at {tracking_uri()} is away ({first_line})"
                problem = str(error) if isinstance(error, StorageError) else away
                progress.note(f"{problem}; going on, figures are kept for later")
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
        if self._closing.is_set() and not self._ended:
            ends = {self._place.parent_id: self._parent_status, self._place.run_id: self._status}
            for run_id, status in ends.items():
                if status and run_id in self._place.ours:
                    self._client.set_terminated(run_id, status)
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
            log = partial(_log_artifact, client, run_id, path, folder)
            self._offer(log, _Buffer(artifacts=artifacts))

    def _offer(self, send: Callable[[], Any], part: _Buffer) -> None:
        """Send a part of the buffer; what the server refuses as invalid is set aside, not repeated."""
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
    """Track into the pipeline's own run. `close` makes sure that all is sent."""
    if not _is_wanted():
        return Tracker(None, "")
    from loraline.tracking import mlflow_runs

    return Tracker(mlflow_runs.find_parent, "the pipeline's run")


@contextmanager
def child_run(name: str) -> Iterator[Tracker]:
    """Track into a step's run below the pipeline's, from here to the end of the context.

    An error that passes through marks the step's run and the pipeline's as failed; a later, successful try
    of the step takes the same run up again.
    """
    tracker = _child(name)
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


def _child(name: str) -> Tracker:
    if not _is_wanted():
        return Tracker(None, "")
    from loraline.tracking import mlflow_runs

    return Tracker(lambda client: mlflow_runs.find_child(client, name), name)


def connect() -> "MlflowClient":
    """Make a client for the model registry, which has to be there: no buffer helps.

    Raises:
        StorageError: MLFLOW_TRACKING_URI is not set.
    """
    if not tracking_uri():
        raise StorageError(
            "no model registry: MLFLOW_TRACKING_URI is not set. `loraline run` keeps one in a sqlite file; "
            "elsewhere set it to your MLflow server's address."
        )
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    return _make_client()


def tracking_uri() -> str:
    """Where MLflow is: "" for nowhere."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


_said_that_nothing_is_tracked = False


def _is_wanted() -> bool:
    global _said_that_nothing_is_tracked  # noqa: PLW0603
    if not tracking_uri() and not _said_that_nothing_is_tracked:
        _said_that_nothing_is_tracked = True
        progress.note("MLFLOW_TRACKING_URI is not set: nothing is tracked in MLflow")
    if tracking_uri():
        _calm_mlflow()
    return bool(tracking_uri())


def preload() -> None:
    """Import what tracking imports once it has something to send."""
    _calm_mlflow()
    for module in ("loraline.tracking.mlflow_runs", *(_SQL_STORES if tracking_uri().startswith("sqlite") else ())):
        importlib.import_module(module)


def _calm_mlflow() -> None:
    """Make MLflow give up within seconds where nothing else is set, phone nobody, and keep its chatter to itself.

    To be called before mlflow is imported: it reads some of it then.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a line for each table of a new database
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # a line for each retry


def _make_client() -> "MlflowClient":
    _calm_mlflow()
    from mlflow import MlflowClient

    make_database(tracking_uri())
    return MlflowClient(tracking_uri=tracking_uri(), registry_uri=tracking_uri())


def _log_artifact(client: "MlflowClient", run_id: str, path: str, folder: str) -> None:
    if Path(path).is_dir():
        client.log_artifacts(run_id, path, folder or None)
    else:
        client.log_artifact(run_id, path, folder or None)
