"""What several tests need: a real S3 server and a store of tracked runs, both of the test's own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.local.s3_server import serve

# Two workers share the machine's cores: threads of one that spin while they wait would starve the other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


_LONGEST = ("tests/pipelines/local/", "tests/faults/")
_OPT_IN = ("browser", "containers", "families", "gpu", "real", "simulation")
"""Markers of tests that run where `-m` names them."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is opt-in and was not asked for, and begin with the files that take minutes.

    So no worker is left alone with one of these at the end.
    """
    not_asked_for = [marker for marker in _OPT_IN if marker not in config.option.markexpr]
    left_out = [item for item in items if any(map(item.get_closest_marker, not_asked_for))]
    items[:] = [item for item in items if item not in set(left_out)]
    config.hook.pytest_deselected(items=left_out)
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 server for the whole session; the environment variables that reach it."""
    with serve(tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The session's S3 server, set in this test's environment."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def mlflow_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An MLflow store in sqlite of the test's own, set in this test's environment; its tracking URI."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tests")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("LORALINE_RUN_ID", "test-run")
    return uri
