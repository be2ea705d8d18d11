"""Object store and tracking store on a machine without a cluster."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipelines.local import s3_server

HOME = Path(".loraline")
"""Caches, stores and tracked runs of this machine, below the current folder."""
RUNS = Path("runs")
"""A folder for each run, for people to look at."""
AUDIT_TRAIL = HOME / "audit.jsonl"
"""The audit trail of `loraline infer`, unless another is named."""


def configure(home: Path) -> None:
    """Set the folders of the cache and the tracking store, unless the environment does."""
    home = home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("LORALINE_CACHE", str(home / "cache"))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home / 'mlflow.db'}"
        os.environ["LORALINE_ARTIFACTS"] = str(home / "mlflow-artifacts")


@contextmanager
def services(home: Path) -> Iterator[None]:
    """Set up this process's environment so that steps find an object store and a tracking store.

    Stores that the environment names (AWS_ENDPOINT_URL, MLFLOW_TRACKING_URI) are used as they are. Otherwise
    an S3 server runs until the context ends, and runs are tracked in a SQLite file.
    """
    configure(home)
    with ExitStack() as stack:
        if not s3_server.is_configured():
            os.environ.update(stack.enter_context(s3_server.serve(home.absolute() / "s3")))
        yield
