"""Settings that hold for a recipe's own data alone."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from loraline import FineTune
from loraline.errors import ConfigurationError
from loraline.evaluation.config import EvaluateConfig
from loraline.gate.config import GateConfig
from loraline.quickstart.builtin_datasets import GENERAL, builtin_rows
from loraline.recipe_file import load_recipe, shipped_recipes
from pipelines.cli.app import app

MINE = """\
data: {source: mine.jsonl}
model: {source: 'scratch:dates'}
gate: {max_forgetting: 0.3}
registry: {model_name: m}
for_data:
  mine.jsonl: {gate: {metric: rouge_l, min_gain: 0.2}, data: {columns: {prompt: question, completion: answer}}}
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.yaml").write_text(MINE)
    return str(tmp_path / "mine.yaml")


def test_they_hold_for_the_recipes_own_data(mine: str) -> None:
    recipe = load_recipe(mine, environment={})
    assert (recipe.gate.metric, recipe.gate.min_gain, recipe.gate.max_forgetting) == ("rouge_l", 0.2, 0.3)
    assert recipe.data.columns.prompt == "question"
    quickstart = load_recipe("quickstart", environment={})
    assert (quickstart.gate.metric, quickstart.gate.min_gain) == ("exact_match", 0.5)
    assert quickstart.evaluation.max_new_tokens == 24


@pytest.mark.parametrize("environment", [{}, {"LORALINE_DATA__SOURCE": "theirs.jsonl"}])
def test_other_data_is_judged_by_the_defaults_and_a_line_says_so(
    mine: str, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [] if environment else ["data.source=theirs.jsonl"]
    recipe = load_recipe(mine, overrides, environment)
    assert recipe.gate == GateConfig(max_forgetting=0.3)
    assert recipe.data.columns.prompt == ""
    assert capsys.readouterr().out == (
        "the data is 'theirs.jsonl', and not 'mine.jsonl': the recipe's data.columns, gate.metric, gate.min_gain "
        "belong to that alone, and the defaults apply instead\n"
    )


def test_what_the_command_line_says_holds_for_any_data(mine: str) -> None:
    for source in ("mine.jsonl", "theirs.jsonl"):
        recipe = load_recipe(mine, [f"data.source={source}", "gate.metric=token_f1"], {})
        assert recipe.gate.metric == "token_f1"
    assert load_recipe(mine, ["gate.metric=token_f1"], {}).gate.min_gain == 0.2


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_take_other_data_and_measure_forgetting(name: str) -> None:
    recipe = load_recipe(name, ["data.source=my.jsonl"], {})
    assert (recipe.gate.metric, recipe.gate.min_gain) == (GateConfig().metric, GateConfig().min_gain) == ("loss", 0.0)
    assert recipe.evaluation.max_new_tokens == EvaluateConfig().max_new_tokens
    assert recipe.data.columns == type(recipe.data.columns)()
    assert recipe.data.general_source
    assert load_recipe(name, environment={}).data.general_source


def test_a_job_with_rows_of_its_own_is_judged_by_the_defaults() -> None:
    assert FineTune("quickstart", "my.jsonl", folder="never-made").recipe.gate.metric == "loss"
    assert FineTune("quickstart", folder="never-made").recipe.gate.metric == "exact_match"


@pytest.mark.parametrize("text", ["[1]", "{mine.jsonl: 3}", "{mine.jsonl: {gate: 3}}"])
def test_what_is_no_settings_by_source_is_refused(mine: str, text: str) -> None:
    Path(mine).write_text(f"{MINE.split('for_data', maxsplit=1)[0]}for_data: {text}\n")
    with pytest.raises(ConfigurationError, match=r"for_data is .*by the data\.source"):
        load_recipe(mine, environment={})


def test_a_setting_that_does_not_exist_is_named(mine: str) -> None:
    Path(mine).write_text(MINE.replace("min_gain", "min_gane"))
    with pytest.raises(ConfigurationError, match="Did you mean 'min_gain'"):
        load_recipe(mine, environment={})


def test_the_general_set_is_of_many_short_questions() -> None:
    rows = list(builtin_rows(GENERAL))
    assert len({row["prompt"] for row in rows}) == len(rows) > 80
    assert all(0 < len(row["completion"]) < 300 for row in rows)
    assert GateConfig().min_examples < len(rows) / 2


def test_the_recipe_that_is_printed_stays_a_recipe() -> None:
    printed = CliRunner().invoke(app, ["validate", "quickstart", "data.source=my.jsonl"])
    assert yaml.safe_load(printed.stdout)["gate"]["metric"] == "loss"
    assert "the data is 'my.jsonl', and not 'builtin:dates'" in printed.stderr
