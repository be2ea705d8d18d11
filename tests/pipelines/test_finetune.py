"""The compiled pipeline, read with KFP's own specification."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.resolve_recipe.component import resolve_recipe
from loraline.recipe import Recipe, parameter_places
from loraline.recipe_file import load_recipe, shipped_recipes
from pipelines.compile import compile_pipeline
from pipelines.finetune import finetune
from pipelines.parameters import recipe_fields
from pipelines.placement import PlacementConfig
from tests.pipelines.pods import read_package


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> pipeline_spec_pb2.PipelineSpec:
    return read_package(compile_pipeline(tmp_path_factory.mktemp("compiled") / "finetune.yaml")).spec


def dags(spec: pipeline_spec_pb2.PipelineSpec) -> list[pipeline_spec_pb2.DagSpec]:
    """The pipeline's DAG and those of its branches."""
    return [spec.root.dag, *(c.dag for c in spec.components.values() if c.HasField("dag"))]


def test_the_same_code_compiles_to_the_same_bytes(tmp_path: Path) -> None:
    one = compile_pipeline(tmp_path / "one.yaml").read_bytes()
    assert one == compile_pipeline(tmp_path / "two.yaml").read_bytes()


def test_parameters_are_the_recipes_fields_and_the_placements(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    inputs = spec.root.input_definitions.parameters
    fields = {**recipe_fields(), **PlacementConfig.model_fields}
    assert set(inputs) == set(fields)
    assert set(resolve_recipe.component_spec.inputs) == set(parameter_places())
    for name, field in fields.items():
        assert inputs[name].description.startswith(" ".join((field.description or "").split()))
        assert inputs[name].is_optional != field.is_required()


def test_choices_are_named_in_the_form(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    inputs = spec.root.input_definitions.parameters
    assert inputs["quantization"].description.endswith("One of: none, int8, nf4.")
    assert inputs["metric"].description.endswith("One of: loss, exact_match, token_f1, rouge_l, json_f1.")


def test_parameters_are_in_the_order_in_which_a_person_fills_them_in() -> None:
    names = list(finetune.pipeline_spec.root.input_definitions.parameters)
    signature = list(inspect.signature(finetune.pipeline_func).parameters)
    assert sorted(names) == sorted(signature)
    assert signature[:3] == ["data_source", "model_source", "model_name"]
    assert signature.index("rank") < signature.index("metric") < signature.index("accelerator_type")
    assert signature[-1] == "image_pull_secret"


def test_defaults_are_the_configurations(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    inputs = spec.root.input_definitions.parameters
    given = {
        name: json_format.MessageToDict(inputs[name])["defaultValue"]
        for name in parameter_places()
        if inputs[name].is_optional
    }
    required: dict[str, Any] = {
        "data": {"source": "rows.jsonl"},
        "model": {"source": "scratch:dates"},
        "registry": {"model_name": "m"},
    }
    needed = {"data_source": "rows.jsonl", "model_source": "scratch:dates", "model_name": "m"}
    assert Recipe.from_parameters(given | needed) == Recipe.checked(required)


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_survives_the_form(name: str) -> None:
    recipe = load_recipe(name, environment={})
    assert Recipe.from_parameters(recipe.parameters()) == recipe


def test_the_dag_is_the_one_of_the_design(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    tasks = spec.root.dag.tasks
    needs = {name: set(task.dependent_tasks) for name, task in tasks.items()}
    assert needs.pop("resolve-recipe") == set()
    assert needs["prepare-dataset"] == needs["load-model"] == {"resolve-recipe"}
    assert needs["train-lora"] == needs["evaluate-model"] == {"resolve-recipe", "prepare-dataset", "load-model"}
    base, champion, tuned = "evaluate-model", "evaluate-model-2", "evaluate-model-3"
    assert needs[champion] == {"resolve-recipe", "prepare-dataset"}
    assert needs["merge-adapter"] == needs["train-lora"] | {"train-lora"}
    assert needs[tuned] == {"resolve-recipe", "prepare-dataset", "merge-adapter"}  # what is registered is evaluated
    assert {base, champion, tuned, "merge-adapter"} < needs["gate"]


def test_it_branches_on_the_verdict_and_never_on_a_number(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    conditions = [task.trigger_policy.condition for dag in dags(spec) for task in dag.tasks.values()]
    branches = sorted(condition for condition in conditions if condition)
    assert len(branches) == 2
    assert all("gate-Output'] == 'promote'" in condition for condition in branches)


def test_only_what_must_run_each_time_is_not_cached(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    uncached = {
        task.component_ref.name.removeprefix("comp-").rstrip("-23")
        for dag in dags(spec)
        for task in dag.tasks.values()
        if not task.caching_options.enable_cache and not task.component_ref.name.startswith("comp-condition")
    }
    assert uncached == {"resolve-recipe", "report"}


def test_a_pod_never_installs(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    assert not re.search(r"\bpip\b", str(json_format.MessageToDict(spec.deployment_spec)))
