"""A machine without torch: `make compile` installs the light core alone, which compiles, uploads and validates."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.compile import PIPELINES
from tests.pipelines.client.server import KfpServer

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "mlflow", "datasets", "pyarrow")


def _run(*command: object, cwd: Path, **variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("KFP_", "KF_", "LORALINE_"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree in which nothing is installed."""
    source = tmp_path_factory.mktemp("light") / "source"
    for package in ("loraline", "components", "pipelines"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    return source


@pytest.fixture(scope="module")
def light(checkout: Path) -> Path:
    """The `bin` folder of the environment that `make compile` makes there."""
    _run("make", "compile", f"PYTHON={sys.executable}", cwd=checkout)
    return checkout / ".venv-light/bin"


def test_make_compile_installs_the_core_alone(light: Path, checkout: Path) -> None:
    assert not (checkout / ".venv").exists()
    script = f"import importlib.util as u; print([n for n in {HEAVY} if u.find_spec(n)])"
    assert _run(light / "python", "-c", script, cwd=checkout).strip() == "[]"
    assert {file.stem for file in (checkout / "build").glob("*.yaml")} == set(PIPELINES)
    assert "comp-train-lora" in (checkout / "build/finetune.yaml").read_text()


def test_make_compile_and_upload_takes_the_same_environment(light: Path, checkout: Path) -> None:
    asked = _run("make", "-n", "compile-and-upload", cwd=checkout)
    assert "install" not in asked
    assert ".venv-light/bin/loraline upload" in asked
    with KfpServer().running() as server:
        command = (light / "loraline", "upload", "build/promote.yaml", "--version", "abc")
        _run(*command, cwd=checkout, KFP_ENDPOINT=server.url)
        assert [version.name for version in server.state.versions.values()] == ["abc"]
        assert not server.violations


def test_an_environment_with_everything_serves_as_well(checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout, tmp_path / "full", ignore=shutil.ignore_patterns(".venv*", "build"))
    (tmp_path / "full/.venv").mkdir()
    for stamp in ("torch", "run"):
        (tmp_path / "full/.venv" / stamp).touch()
    asked = _run("make", "-n", "compile-and-upload", cwd=tmp_path / "full")
    assert ".venv/bin/loraline compile" in asked
    assert ".venv-light" not in asked


def test_validating_needs_no_torch(light: Path, tmp_path: Path) -> None:
    assert "learning_rate: 0.0001" in _run(
        light / "loraline", "validate", "quickstart", "training.learning_rate=1e-4", cwd=tmp_path
    )
    assert "phi-4-mini-medical" in _run(light / "loraline", "recipes", cwd=tmp_path)
