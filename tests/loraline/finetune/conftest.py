"""A tiny base model, rows in memory, and settings with which a job takes seconds."""

from pathlib import Path
from typing import Any

import pytest

from loraline import FineTune
from tests import tiny

SETTINGS: dict[str, Any] = {
    "compute_dtype": "float32",
    "device": "cpu",
    "max_length": 128,
    "epochs": 1,
    "max_new_tokens": 4,
    "max_examples": 6,
    "parity_examples": 2,
    "generated_tokens": 4,
    "training": {"batch_size": 2},
}


def rows(count: int = 40) -> list[dict[str, str]]:
    """Rows that a tiny model can learn something of."""
    return [{"prompt": f"say {number}", "completion": f"{number} {number}"} for number in range(count)]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model folder, of random weights."""
    return tiny.save_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORALINE_CACHE", str(tmp_path_factory.getbasetemp() / "finetune-cache"))


@pytest.fixture
def job(base: Path, tmp_path: Path) -> FineTune:
    """A job on the tiny base."""
    return FineTune(base, rows(), folder=tmp_path / "work", **SETTINGS)
