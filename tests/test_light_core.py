"""A machine with the light core alone, in a virtual environment of its own: no torch, no transformers."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with Loraline's core, installed from a copy of the tree as a user would."""
    folder = tmp_path_factory.mktemp("light")
    source = folder / "source"
    for package in ("loraline", "components", "pipelines"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    _run(uv, "venv", "-q", folder / "venv", "--python", Path(sysconfig.get_path("scripts")) / "python")
    _run(
        uv,
        "pip",
        "install",
        "-q",
        "--python",
        folder / "venv/bin/python",
        "-c",
        ROOT / "requirements.lock",
        source,
    )
    return folder / "venv" / "bin"


def _run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_core_is_light(light: Path) -> None:
    script = "import importlib.util as u; print([n for n in ('torch', 'transformers', 'mlflow') if u.find_spec(n)])"
    assert _run(light / "python", "-c", script, cwd=light).strip() == "[]"


def test_compiling_needs_no_torch(light: Path, tmp_path: Path) -> None:
    _run(light / "loraline", "compile", "-o", tmp_path, cwd=tmp_path)
    assert "comp-train-lora" in (tmp_path / "finetune.yaml").read_text()


def test_validating_needs_no_torch(light: Path, tmp_path: Path) -> None:
    assert "learning_rate: 0.0001" in _run(
        light / "loraline", "validate", "quickstart", "training.learning_rate=1e-4", cwd=tmp_path
    )
    assert "phi-4-mini-medical" in _run(light / "loraline", "recipes", cwd=tmp_path)
