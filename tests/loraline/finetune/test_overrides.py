"""What a job takes as its model and its settings, and how it says what it does not take."""

from pathlib import Path

import pytest

from loraline import ConfigurationError, FineTune, load_recipe


def job(*args: object, **settings: object) -> FineTune:
    return FineTune(*args, folder="never-made", **settings)  # type: ignore[arg-type]


def test_a_model_needs_no_more_than_its_name() -> None:
    recipe = job("HuggingFaceTB/SmolLM2-135M-Instruct", "my.jsonl").recipe
    assert recipe.model.source == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert recipe.data.source == "my.jsonl"
    assert recipe.registry.model_name == "SmolLM2-135M-Instruct"
    assert recipe.training == load_recipe("smollm2-135m").training.model_copy(update={"max_length": 2048})


def test_a_recipe_is_named_given_or_read(tmp_path: Path) -> None:
    recipe = load_recipe("quickstart")
    file = tmp_path / "mine.yaml"
    file.write_text("data: {source: rows.jsonl}\nmodel: {source: 'scratch:dates'}\nregistry: {model_name: m}\n")
    assert job("quickstart").recipe == recipe
    assert job(recipe).recipe == recipe
    assert job(recipe.model_dump()).recipe == recipe
    assert job(file).recipe.registry.model_name == "m"
    assert job("quickstart", "my.jsonl").recipe.data.source == "my.jsonl"


def test_settings_go_where_their_name_belongs() -> None:
    recipe = job("scratch:dates", quantization="nf4", rank=4, training={"batch_size": 1}, policy="medical").recipe
    assert (recipe.model.quantization, recipe.training.rank, recipe.training.batch_size) == ("nf4", 4, 1)
    assert recipe.safety.policy == "medical"


def test_the_environment_is_laid_over_a_recipe_and_arguments_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORALINE_TRAINING__RANK", "4")
    assert job("quickstart").recipe.training.rank == 4
    assert job("scratch:dates", rank=8).recipe.training.rank == 8


def test_every_invalid_setting_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        job("scratch:dates", rnak=8, batch_size=1, quantization="nf5", training=3, learning_rate=-1)
    assert caught.value.__context__ is None, "pydantic's own error does not stand before it in a REPL"
    message = str(caught.value)
    assert "rnak = 8: there is no such setting. Did you mean 'rank'?" in message
    assert "training={'batch_size': 1} or evaluation={'batch_size': 1}" in message
    assert "model.quantization = 'nf5'" in message
    assert "training = 3: a mapping of the section's settings" in message
    assert "training.learning_rate = -1" in message


def test_a_misspelled_recipe_is_no_model() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean the recipe 'quickstart'"):
        job("quikstart")
