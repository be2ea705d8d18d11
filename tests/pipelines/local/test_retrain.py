"""Retraining and promotion on this machine: the pipelines themselves, through kfp's local runner."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from loraline.evidence.schema import Evidence
from loraline.recipe_file import load_recipe
from pipelines.local.run import LocalStep, RunFailedError, new_run_folder, run_pipeline
from tests import tiny

SMALL = (
    "training.max_steps=3",
    "training.max_length=64",
    "training.learning_rate=0.01",
    "data.eval_fraction=0.4",
    "evaluation.max_examples=20",
    "evaluation.max_new_tokens=4",
    "gate.metric=loss",
    "gate.min_examples=20",
    "gate.min_gain=0",
    "gate.max_degenerate=1",  # three steps teach no model of this size when to stop
)


class Silent:
    """Watches a run and says nothing."""

    def step_started(self, step: LocalStep) -> None: ...
    def progressed(self, step: LocalStep, event: dict[str, Any]) -> None: ...
    def noted(self, text: str) -> None: ...
    def step_ended(self, step: LocalStep) -> None: ...


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retraining")
    tiny.save_model(folder / "base")
    lines = [{"prompt": f"Say {n} twice", "completion": f"{n} {n}"} for n in range(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(autouse=True)
def _alone(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's environment without what would lead a run elsewhere."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "MLFLOW_", "LORALINE_")):
            monkeypatch.delenv(name)


def run(workplace: Path, pipeline: str, parameters: dict[str, Any]) -> dict[str, LocalStep]:
    steps = run_pipeline(
        parameters, new_run_folder(workplace / "runs", pipeline), workplace / "home", Silent(), pipeline
    )
    return {step.name: step for step in steps}


def retrain(workplace: Path) -> dict[str, LocalStep]:
    sources = (f"data.source={workplace / 'rows.jsonl'}", f"model.source={workplace / 'base'}")
    recipe = load_recipe("quickstart", (*sources, "registry.model_name=again", *SMALL), environment={})
    return run(workplace, "retrain", recipe.parameters())


def promote(workplace: Path, **parameters: str) -> LocalStep:
    return run(workplace, "promote", {"model_name": "again", **parameters})["promote_model"]


def test_it_trains_when_there_is_news_and_only_then(workplace: Path) -> None:
    first = retrain(workplace)
    assert first["check_freshness"].outputs["Output"] == "changed"
    assert "no champion yet" in first["check_freshness"].headline
    assert "version 1, @challenger" in first["register_model"].headline

    assert promote(workplace).outputs["Output"] == "1"
    with pytest.raises(RunFailedError, match="nothing to roll back to"):
        promote(workplace, action="rollback")

    nothing = retrain(workplace)
    assert set(nothing) == {"resolve_recipe", "check_freshness"}
    assert "nothing new" in nothing["check_freshness"].headline

    rows = workplace / "rows.jsonl"
    rows.write_text(rows.read_text().replace("Say 7 twice", "Say 7 thrice"))
    second = retrain(workplace)
    assert "the data changed" in second["check_freshness"].headline
    assert second["load_model"].state == "cached"
    evidence = Evidence.load(Path(second["gate"].outputs["evidence"]))
    assert evidence.champion is not None
    assert evidence.champion.champion is not None
    assert evidence.champion.champion.version == "1"
    assert {one.against for one in evidence.comparisons} == {"base", "champion"}
