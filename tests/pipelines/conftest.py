"""A double of the KFP server, and the real compiled pipeline to bring to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loraline.recipe import Recipe
from pipelines.client.cluster_settings import cluster_settings
from pipelines.client.connection import Cluster, connect
from pipelines.compile import compile_pipeline
from tests.pipelines.client.server import KfpServer

_SETTINGS = ("KFP_ENDPOINT", "KF_PIPELINES_ENDPOINT", "KFP_NAMESPACE", "KFP_TOKEN_FILE", "KFP_COOKIE", "KFP_CA_FILE")

RECIPE = {"data": {"source": "rows.jsonl"}, "model": {"source": "org/model"}, "registry": {"model_name": "answers"}}
PARAMETERS = Recipe.checked(RECIPE).parameters()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this machine's own settings out."""
    for name in _SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")  # so that tables are not cut


@pytest.fixture
def server() -> Iterator[KfpServer]:
    """A running double; the test fails where anything went against KFP's contract."""
    with KfpServer().running() as double:
        yield double
    assert not double.violations


@pytest.fixture
def cluster(server: KfpServer) -> Cluster:
    """A connection to the double."""
    return connect(cluster_settings(server.url))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fine-tuning pipeline, compiled."""
    return compile_pipeline(tmp_path_factory.mktemp("package") / "finetune.yaml")
