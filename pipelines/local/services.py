"""Object store and tracking for a machine without a cluster."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipelines.local import object_store

HOME = Path(".loraline")
"""Where everything lies that a run on this machine keeps: models, data, runs, cache; below the current folder."""


def configure(home: Path) -> None:
    """Set, where the environment does not say otherwise, where this machine keeps its cache and tracks its runs."""
    home = home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("LORALINE_CACHE", str(home / "cache"))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home / 'mlflow.db'}"
        os.environ["LORALINE_ARTIFACTS"] = str(home / "mlflow-artifacts")


@contextmanager
def services(home: Path) -> Iterator[None]:
    """Set this process's environment so that steps find an object store and a tracking store.

    What the environment names already (AWS_ENDPOINT_URL, MLFLOW_TRACKING_URI) is used as it is; otherwise
    an S3 server is started until the context ends, and runs are tracked in a sqlite file.
    """
    configure(home)
    with ExitStack() as stack:
        if not object_store.is_configured():
            os.environ.update(stack.enter_context(object_store.serve(home.absolute() / "s3")))
        yield
