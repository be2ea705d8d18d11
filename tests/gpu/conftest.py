"""Tests on a CUDA device: `make test-gpu`, or `pytest tests/gpu -m gpu`.

Where it can, a test runs on the CPU as well, which checks the test itself on machines without a GPU. The variants on
CUDA have the marker gpu; they are deselected unless `-m` names it, and skipped where there is no CUDA device.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loraline.models.folder import read_manifest, write_manifest
from tests.loraline.training.conftest import dataset, make_model, tokenizer  # noqa: F401  # fixtures

CPU_AND_CUDA = [torch.device("cpu"), pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a CUDA device where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(params=CPU_AND_CUDA, ids=str)
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, and CUDA where `-m gpu` asks for it."""
    chosen: torch.device = request.param
    return chosen


@pytest.fixture
def model_on(make_model: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:  # noqa: F811
    """Makes a folder with a random model of a family that is to be loaded on a device, in a dtype."""

    def make(device: torch.device, dtype: str, family: str = "llama") -> Path:
        folder = tmp_path / f"{family}-{device.type}-{dtype}"
        if not folder.exists():
            shutil.copytree(make_model(family, "float32"), folder)
            asked = {"device": device.type, "compute_dtype": dtype}
            write_manifest(folder, read_manifest(folder).model_copy(update=asked))
        return folder

    return make
