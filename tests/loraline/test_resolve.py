"""What resolve_recipe hands to each step, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from loraline.errors import ConfigurationError, DatasetError, ModelLoadingError
from loraline.recipe import Recipe
from loraline.resolve import Settings, resolve
from loraline.settings import EvaluateSettings, GateSettings, LoadSettings, PrepareSettings
from tests.loraline.tiny_models import save_tiny_model

pytestmark = pytest.mark.usefixtures("mlflow_store")

EVALUATIONS = {"evaluate_base", "evaluate_tuned", "evaluate_champion"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("base")))


def recipe(source: str, **sections: dict[str, Any]) -> Recipe:
    """A recipe of built-in rows, with changes."""
    values: dict[str, dict[str, Any]] = {
        "data": {"source": "builtin:dates"},
        "model": {"source": source},
        "registry": {"model_name": "resolved"},
    }
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return Recipe.checked(values)


def changed(before: Settings, after: Settings) -> set[str]:
    """The steps whose settings, and so whose cache keys, differ."""
    return {name for name in Settings._fields if getattr(before, name) != getattr(after, name)}


def test_the_same_recipe_gives_the_same_text(source: str) -> None:
    assert resolve(recipe(source)) == resolve(recipe(source))


@pytest.mark.parametrize(
    "training",
    [{"rank": 4}, {"batch_size": 1}, {"learning_rate": 1e-5}, {"epochs": 7}, {"gradient_checkpointing": True}],
    ids=str,
)
def test_a_training_setting_fetches_and_evaluates_no_base_again(source: str, training: dict[str, Any]) -> None:
    """`gate` has the recipe in its lineage, and weighs again in no time."""
    before, after = resolve(recipe(source)), resolve(recipe(source, training=training))
    assert changed(before, after) == {"train_lora", "gate"}


def test_another_length_prepares_the_rows_again_and_fetches_no_base(source: str) -> None:
    before, after = resolve(recipe(source)), resolve(recipe(source, training={"max_length": 99}))
    assert changed(before, after) == {"prepare_dataset", "train_lora", "gate"}


def test_each_section_concerns_the_steps_that_read_it(source: str) -> None:
    before = resolve(recipe(source))
    for section, changes, steps in (
        ("merge", {"generated_tokens": 3}, {"merge_adapter", "gate"}),
        ("evaluation", {"max_examples": 9}, {*EVALUATIONS, "gate"}),
        ("data", {"eval_fraction": 0.2}, {"prepare_dataset", "gate"}),
        ("model", {"device": "cpu"}, {"load_model", *EVALUATIONS, "gate"}),
        ("registry", {"model_name": "other"}, {"register_model", "gate"}),
    ):
        assert changed(before, resolve(recipe(source, **{section: changes}))) == steps, section


def test_bytes_behind_a_path_are_pinned(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "base")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    mine = recipe(str(model), data={"source": str(rows)})
    before = resolve(mine)
    rows.write_text('{"prompt": "a", "completion": "c"}\n')
    assert changed(before, resolve(mine)) == {"prepare_dataset", "gate"}
    before = resolve(mine)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert changed(before, resolve(mine)) == {"prepare_dataset", "load_model", "gate"}


def test_settings_are_what_the_steps_parse(source: str) -> None:
    settings = resolve(recipe(source, safety={"policy": "medical"}))
    assert PrepareSettings.parse(settings.prepare_dataset).tokenizer_source == source
    assert LoadSettings.parse(settings.load_model).config.source == source
    evaluation, tuned = (EvaluateSettings.parse(one) for one in (settings.evaluate_base, settings.evaluate_tuned))
    champion = EvaluateSettings.parse(settings.evaluate_champion)
    assert evaluation.policy
    assert (evaluation.subject, tuned.subject, champion.subject) == ("base", "tuned", "champion")
    assert champion.champion is None
    assert evaluation.model == tuned.model == champion.model
    lineage = GateSettings.parse(settings.gate).lineage
    assert lineage.policy is not None
    assert lineage.policy.digest == evaluation.policy.digest
    assert lineage.model_name == "resolved"
    assert "training" not in json.loads(settings.load_model)


def test_what_is_not_there_is_refused(source: str) -> None:
    with pytest.raises(DatasetError, match="does not exist: no such file or folder"):
        resolve(recipe(source, data={"source": "/nowhere.jsonl"}))
    with pytest.raises(ConfigurationError, match="no such folder here"):
        resolve(recipe(source, evaluation={"tasks": ["mine"], "task_folder": "nowhere"}))
    with pytest.raises((ModelLoadingError, ConfigurationError)):
        resolve(recipe("/nowhere"))


def test_a_base_that_does_not_fit_is_refused_before_it_crosses_a_network(
    source: str, monkeypatch: pytest.MonkeyPatch, s3: dict[str, str]
) -> None:
    from loraline import storage

    storage.upload(Path(source), "s3://resolved/base")
    resolve(recipe("s3://resolved/base"))
    monkeypatch.setattr("loraline.models.accelerators.free_memory", lambda _: 1 << 20)
    with pytest.raises(ModelLoadingError, match=r"needs .* MiB, and cpu has 1\.0 MiB"):
        resolve(recipe("s3://resolved/base", model={"device": "cpu"}))


def test_every_source_of_rows_is_pinned_and_named(source: str, tmp_path: Path) -> None:
    """Rows of any source make the data change, for the settings of the steps and for a retraining."""
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file in files:
        file.write_text('{"prompt": "a", "completion": "b"}\n')
    several = [str(files[0]), {"source": f"{files[1]}[:50%]", "weight": 2.0}]
    before = resolve(recipe(source, data={"source": several}))
    lineage = GateSettings.parse(before.gate).lineage
    assert lineage.data.source == f"{files[0]}, {files[1]}[:50%]"
    assert PrepareSettings.parse(before.prepare_dataset).config.names() == lineage.data.source
    heavier = resolve(recipe(source, data={"source": [several[0], {**several[1], "weight": 3.0}]}))  # type: ignore[dict-item]
    assert changed(before, heavier) == {"prepare_dataset", "gate"}
    files[1].write_text('{"prompt": "a", "completion": "c"}\n')
    after = resolve(recipe(source, data={"source": several}))
    assert changed(before, after) == {"prepare_dataset", "gate"}
    assert GateSettings.parse(after.gate).lineage.data.digest != lineage.data.digest
