"""The notebook runs, its tuned model is better than the base, and it is saved with outputs that say nothing private."""

import json
import re
from pathlib import Path

import pytest

from tests.examples import notebook


def test_every_cell_runs_and_the_tuned_model_is_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = notebook.run(json.loads(notebook.FINETUNE.read_text()))
    result = namespace["result"]
    assert result.tuned.loss < result.base.loss - 0.5
    assert result.tuned.exact_match > result.base.exact_match
    assert namespace["page"].evidence.merge is not None


def test_the_saved_outputs_are_complete_and_small() -> None:
    text = notebook.FINETUNE.read_text()
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell["outputs"]) for cell in cells) >= 6
    assert not re.search(r"/(root|home|tmp|work|Users)/", text)
    assert len(text) < 300_000
