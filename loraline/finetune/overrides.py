"""The settings of a fine-tuning job: a model or a recipe, and keyword arguments over it, as a validated recipe."""

import re
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from loraline.data.source_config import DataSource
from loraline.errors import ConfigurationError
from loraline.recipe import Recipe, closest_name, section_class
from loraline.recipe_file import override, read_recipe, shipped_recipes

Values = dict[str, Any]
"""Values nested as in a recipe file: section, then field."""

_RECIPE_FILES = (".yaml", ".yml")


def starting_values(model: str | PathLike[str] | Mapping[str, Any] | Recipe) -> Values:
    """The values that a job starts from, with the environment laid over them.

    Args:
        model: a base model's source, a shipped recipe's name, a recipe file, a recipe's values, or a recipe.

    Raises:
        ConfigurationError: there is no such recipe.
    """
    if isinstance(model, Recipe):
        return model.model_dump(exclude_unset=True)
    if isinstance(model, Mapping):
        return override(model)
    source = fspath(model)
    if source in shipped_recipes() or source.endswith(_RECIPE_FILES):
        return override(read_recipe(source))
    _refuse_misspelled_recipe(source)
    return override({"model": {"source": source}})


def _refuse_misspelled_recipe(source: str) -> None:
    near = closest_name(source, shipped_recipes())
    if near and not re.search(r"[/:\\]", source) and not Path(source).exists():
        raise ConfigurationError(
            f"{source!r} is neither a recipe nor the address of a model. Did you mean the recipe {near!r}? A model is "
            "a folder, a Hub id (owner/model), s3://bucket/prefix, models:/name@alias or scratch:dates"
        )


def with_rows(values: Values, **sources: str | tuple[DataSource, ...] | None) -> Values:
    """Values with other sources of rows; None leaves a source as it is. Without rows, `data.source` is empty."""
    given = {name: source for name, source in sources.items() if source is not None}
    return {**values, "data": {"source": "", **values.get("data", {}), **given}}


def build(values: Values, settings: Mapping[str, Any], section: str = "") -> Recipe:
    """Validate values with settings laid over them.

    Args:
        values: where the job starts from.
        settings: by the name of a field, or of a section (then a mapping of its fields).
        section: the only section whose fields may be named; empty: any whose field has the name to itself.

    Raises:
        ConfigurationError: every invalid name and value at once, with what may have been meant.
    """
    changed, problems = _lay_over(values, settings, section)
    changed.setdefault("registry", {}).setdefault("model_name", _model_name(changed))
    recipe = None
    try:
        recipe = Recipe.checked(changed)
    except ConfigurationError as error:
        problems += str(error).splitlines()[1:]
    if recipe is None or problems:  # raised here and not above, so that no traceback of pydantic's stands before it
        raise ConfigurationError(f"{len(problems)} invalid setting{'s' * (len(problems) > 1)}:\n" + "\n".join(problems))
    return recipe


def _lay_over(values: Values, settings: Mapping[str, Any], section: str) -> tuple[Values, list[str]]:
    changed = {name: dict(fields) if isinstance(fields, Mapping) else fields for name, fields in values.items()}
    problems = []
    for name, value in settings.items():
        if not section and name in Recipe.model_fields:
            if isinstance(value, Mapping):
                changed.setdefault(name, {}).update(value)
            else:
                problems.append(f"  {name} = {value!r}: a mapping of the section's settings is wanted")
            continue
        places = [section] if section else _sections_with(name)
        if len(places) == 1:
            changed.setdefault(places[0], {})[name] = value
        else:
            problems.append(f"  {name} = {value!r}: {_unplaced(name, value, places)}")
    return changed, problems


def _sections_with(field: str) -> list[str]:
    return [section for section in Recipe.model_fields if field in section_class(section).model_fields]


def _unplaced(name: str, value: Any, places: list[str]) -> str:
    if places:
        ways = " or ".join(f"{section}={{{name!r}: {value!r}}}" for section in places)
        return f"several sections have this setting; write {ways}"
    known = {field: section for section in Recipe.model_fields for field in section_class(section).model_fields}
    near = closest_name(name, [*known, *Recipe.model_fields])
    return "there is no such setting." + (f" Did you mean {near!r}?" if near else "")


def _model_name(values: Values) -> str:
    """A name for the tuned model: that of its base, without what a registry does not take."""
    base = str((values.get("model") or {}).get("source", "")).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", base).strip("-._") or "model"
