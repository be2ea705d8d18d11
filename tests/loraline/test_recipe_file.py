"""Recipes: files, overrides, and what is said of invalid ones."""

from pathlib import Path

import pytest

from loraline.errors import ConfigurationError
from loraline.recipe_file import load_recipe, shipped_recipes

MINIMAL = "data: {source: rows.jsonl}\nmodel: {source: 'scratch:dates'}\nregistry: {model_name: m}\n"


@pytest.fixture
def recipe_file(tmp_path: Path) -> str:
    file = tmp_path / "recipe.yaml"
    file.write_text(MINIMAL)
    return str(file)


def test_the_promised_recipes_are_shipped() -> None:
    promised = {"quickstart", "smollm2-135m", "llama-3.2-1b", "llama-3.1-8b-qlora", "phi-4-mini-medical"}
    assert promised <= set(shipped_recipes())


def test_the_later_wins(recipe_file: str) -> None:
    environment = {
        "LORALINE_TRAINING__LEARNING_RATE": "1e-3",
        "LORALINE_TRAINING__RANK": "4",
        "LORALINE_CACHE": "/x",
    }
    recipe = load_recipe(recipe_file, ["training.learning_rate=1e-4", "data.columns.prompt=question"], environment)
    assert recipe.training.learning_rate == 1e-4
    assert recipe.training.rank == 4
    assert recipe.data.columns.prompt == "question"


def test_every_error_is_said_at_once(recipe_file: str) -> None:
    overrides = ["training.rank=-3", "training.learning_rat=1", "model.quantization=nf5", "nothing.here=1"]
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(recipe_file, overrides, {"LORALINE_GATE__MIN_GAIN": "much"})
    message = str(caught.value)
    assert "training.rank = -3" in message
    assert "Did you mean 'learning_rate'?" in message
    assert "'none', 'int8' or 'nf4'" in message
    assert "nothing = " in message
    assert "gate.min_gain = 'much'" in message


@pytest.mark.parametrize(
    ("former", "name"),
    [
        ("schedule", "lr_scheduler_type"),
        ("warmup_fraction", "warmup_ratio"),
        ("gradient_accumulation", "gradient_accumulation_steps"),
        ("gradient_clipping", "max_grad_norm"),
        ("eval_every", "eval_steps"),
        ("checkpoint_every", "save_steps"),
    ],
)
def test_a_former_name_is_refused_with_the_present_one(recipe_file: str, former: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"training\.{former} = 1: .* Did you mean '{name}'\?"):
        load_recipe(recipe_file, [f"training.{former}=1"], {})


def test_malformed_overrides_are_said_at_once(recipe_file: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(recipe_file, ["rank=3", "training.rank", "data.source.deep=1"], {})
    assert str(caught.value).count("\n") == 3


def test_a_missing_section_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("data: {source: rows.jsonl}\n")
    with pytest.raises(ConfigurationError, match=r"(?s)model: missing\..*registry: missing\."):
        load_recipe(str(file), [], {})


def test_an_unknown_recipe_gets_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'quickstart'"):
        load_recipe("quikstart", [], {})


@pytest.mark.parametrize("text", ["just words", "a: [1", "- 1\n- 2"])
def test_what_is_no_recipe_is_said(text: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"recipe\.yaml"):
        load_recipe(str(file), [], {})
