"""Evidence of both verdicts, and the fixtures that prepare a dataset."""

import pytest

from loraline.evidence.schema import Evidence
from tests.loraline.data.conftest import run, tokenizer_folder
from tests.loraline.registered import GatedRun

__all__ = ["run", "tokenizer_folder"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes a browser unless `-m` names the marker."""
    if "browser" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("browser")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture
def promoted_evidence(promoted: GatedRun) -> Evidence:
    return Evidence.load(promoted.evidence)


@pytest.fixture
def rejected_evidence(rejected: GatedRun) -> Evidence:
    return Evidence.load(rejected.evidence)
