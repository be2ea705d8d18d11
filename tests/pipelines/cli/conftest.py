"""The command line in this process, and what its commands need: a server that has the pipeline, a recipe, a model."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from loraline.artifacts.base_model import ModelManifest
from loraline.models.folder import write_manifest
from loraline.safety.policy_files import load_policy, write_policy
from pipelines.cli.app import app
from tests import tiny
from tests.pipelines.client.server import KfpServer
from tests.pipelines.conftest import RECIPE


def loraline(*words: object) -> Result:
    """Run a command of `loraline`."""
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A recipe file."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(RECIPE))
    return str(tmp_path / "mine.yaml")


@pytest.fixture
def ready(server: KfpServer, package: Path, monkeypatch: pytest.MonkeyPatch) -> KfpServer:
    """A server that the environment names and that has the pipeline."""
    monkeypatch.setenv("KFP_ENDPOINT", server.url)
    assert loraline("upload", package, "--version", "abc123").exit_code == 0
    return server


@pytest.fixture(scope="session")
def medical_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with the medical policy; its context holds the policy's system prompt, a token a byte."""
    folder = tiny.save_model(tmp_path_factory.mktemp("model"), tiny.llama(max_position_embeddings=2048))
    write_manifest(folder, ModelManifest(compute_dtype="float32", device="cpu"))
    write_policy(load_policy("medical"), folder)
    return folder
