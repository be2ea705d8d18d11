"""Read the steps and parameters of a compiled pipeline, as the server stores it in a version."""

from collections.abc import Mapping
from typing import Any

import yaml

from loraline.errors import ConfigurationError
from loraline.recipe import closest_name

_TEXT = "STRING"


def pipeline_spec(version: Any) -> dict[str, Any]:
    """The spec in KFP's V2beta1PipelineVersion; one with Kubernetes settings is nested one level deeper."""
    spec: dict[str, Any] = version.pipeline_spec or {}
    return spec.get("pipeline_spec", spec)


def step_labels(spec: Mapping[str, Any]) -> dict[str, str]:
    """The pipeline's steps in topological order: the task's name in KFP -> its display name.

    Groups (conditions, loops) are not steps; the steps inside them are.
    """
    return _steps_of(spec.get("root", {}), spec.get("components", {}))


def _steps_of(component: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = {}
    tasks = component.get("dag", {}).get("tasks", {})
    for name in _topological_order(tasks):
        inner = components.get(tasks[name].get("componentRef", {}).get("name"), {})
        if "dag" in inner:
            labels |= _steps_of(inner, components)
        else:
            labels[name] = tasks[name].get("taskInfo", {}).get("name", name)
    return labels


def _topological_order(tasks: Mapping[str, Any]) -> list[str]:
    """Names of tasks, each after the tasks that it depends on."""
    ordered: list[str] = []

    def place(name: str) -> None:
        for earlier in tasks[name].get("dependentTasks", []):
            if earlier not in ordered:
                place(earlier)
        if name not in ordered:
            ordered.append(name)

    for name in tasks:
        place(name)
    return ordered


def arguments(spec: Mapping[str, Any], recipe: Mapping[str, Any], more: list[str], version: str) -> dict[str, Any]:
    """A run's arguments: the recipe's, and single ones (`name=value`, parsed as YAML unless the parameter is a string).

    Raises:
        ConfigurationError: lists every argument that the version has no parameter for.
    """
    known = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    values, problems = dict(recipe), []
    for text in more:
        name, equals, value = text.partition("=")
        if not equals or not name:
            problems.append(f"{text!r}: write name=value")
        elif known.get(name, {}).get("parameterType") == _TEXT:
            values[name] = value
        else:
            try:
                values[name] = yaml.safe_load(value)
            except yaml.YAMLError:
                problems.append(f"{text!r}: the value is not YAML")
    for name in values:
        if name not in known:
            near = closest_name(name, known)
            problems.append(f"{name!r}: no such parameter." + (f" Did you mean {near!r}?" if near else ""))
    if problems:
        raise ConfigurationError(
            f"version {version!r} of the pipeline does not take these arguments"
            " (`loraline upload` uploads this code's version):\n" + "\n".join(f"  {one}" for one in problems)
        )
    return values
