"""Evidence of both verdicts, and the fixtures that prepare a dataset."""

import pytest

from loraline.evidence.schema import Evidence
from tests.loraline.data.conftest import run, tokenizer_folder
from tests.loraline.registered import GatedRun

__all__ = ["run", "tokenizer_folder"]


@pytest.fixture
def promoted_evidence(promoted: GatedRun) -> Evidence:
    return Evidence.load(promoted.evidence)


@pytest.fixture
def rejected_evidence(rejected: GatedRun) -> Evidence:
    return Evidence.load(rejected.evidence)
