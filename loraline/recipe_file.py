"""A recipe file, the environment and the command line, laid over each other and validated."""

import copy
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from loraline.errors import ConfigurationError
from loraline.recipe import Recipe

_SHIPPED = Path(__file__).parent / "recipes"
_ENVIRONMENT_PREFIX = "LORALINE_"
_Change = tuple[str, list[str], Any]  # where it was said, the path of the field, the value


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with Loraline."""
    return sorted(file.stem for file in _SHIPPED.glob("*.yaml"))


def load_recipe(name: str, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Recipe:
    """Read a recipe and lay overrides over it; the later wins: file, environment, command line.

    Args:
        name: a shipped recipe's name, or the path of a YAML file.
        overrides: `training.learning_rate=1e-4`; values are read as YAML.
        environment: variables such as LORALINE_TRAINING__LEARNING_RATE (default: the process's).

    Raises:
        ConfigurationError: with all that is wrong at once.
    """
    return Recipe.checked(override(read_recipe(name), overrides, environment))


def read_recipe(name: str) -> dict[str, Any]:
    """The values of a recipe file, which are not validated yet.

    Args:
        name: a shipped recipe's name, or the path of a YAML file.

    Raises:
        ConfigurationError: there is no such file, or it is no recipe.
    """
    return _read(_locate(name))


def override(
    values: Mapping[str, Any], overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A copy of a recipe's values with the environment and the command line laid over them, in this order.

    Args:
        values: nested as in a recipe file.
        overrides: as of `load_recipe`.
        environment: as of `load_recipe`.

    Raises:
        ConfigurationError: an override is malformed, or names no field; all of these at once.
    """
    changed = copy.deepcopy(dict(values))
    changes, malformed = _from_command_line(overrides)
    for where, path, value in [
        *_from_environment(os.environ if environment is None else environment),
        *changes,
    ]:
        problem = _lay(changed, path, value)
        if problem:
            malformed.append(f"  {where}: {problem}")
    if malformed:
        raise ConfigurationError("invalid overrides:\n" + "\n".join(malformed))
    return changed


def _locate(name: str) -> Path:
    shipped = _SHIPPED / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    if Path(name).is_file():
        return Path(name)
    near = difflib.get_close_matches(name, shipped_recipes(), n=1)
    raise ConfigurationError(
        f"no recipe {name!r}: it is neither a file nor one of {', '.join(shipped_recipes())}."
        + (f" Did you mean {near[0]!r}?" if near else "")
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{file} holds {values!r}; a recipe is a mapping with sections data, model, ...")
    return values


def _from_command_line(overrides: Sequence[str]) -> tuple[list[_Change], list[str]]:
    changes, malformed = [], []
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not path or "." not in path:
            malformed.append(f"  {text!r}: write section.field=value, such as training.learning_rate=1e-4")
        else:
            changes.append((repr(text), path.strip().split("."), _value(value)))
    return changes, malformed


def _from_environment(environment: Mapping[str, str]) -> list[_Change]:
    """Variables with a double underscore name a field; Loraline's others (LORALINE_CACHE, ...) do not."""
    return [
        (f"{name}={text!r}", name.removeprefix(_ENVIRONMENT_PREFIX).lower().split("__"), _value(text))
        for name, text in sorted(environment.items())
        if name.startswith(_ENVIRONMENT_PREFIX) and "__" in name
    ]


def _value(text: str) -> Any:
    """A value as YAML reads it; what is no YAML (`a: b: c`) is the text itself."""
    try:
        return yaml.safe_load(text) if text.strip() else ""
    except yaml.YAMLError:
        return text


def _lay(values: dict[str, Any], path: list[str], value: Any) -> str:
    """Set a value deep in a mapping; returns what is wrong, or nothing."""
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            return f"{part!r} holds {values!r} and has no fields"
    values[path[-1]] = value
    return ""
