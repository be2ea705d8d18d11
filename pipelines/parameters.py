"""Generate the flat, typed and described parameters of a KFP pipeline from configuration classes."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from loraline.recipe import parameter_places, parameter_type, section_class

Fields = Mapping[str, FieldInfo]
"""Parameter name -> field of a configuration class."""


def recipe_fields() -> Fields:
    """The recipe's fields by their parameter names in KFP's form, in the order of the form."""
    return {name: section_class(s).model_fields[f] for name, (s, f) in parameter_places().items()}


def takes(**groups: Fields) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a pipeline function with fields as flat parameters; it receives one dictionary for each group.

    KFP reads a pipeline's parameters from its signature and their descriptions from its docstring. Both are
    generated from the configuration classes, so they cannot diverge. Parameters are in the order of the groups, those
    without a default first.
    """
    fields = {name: field for group in groups.values() for name, field in group.items()}
    assert len(fields) == sum(map(len, groups.values())), "two groups have a parameter of the same name"
    parameters = (_parameter(name, field) for name, field in fields.items())
    signature = inspect.Signature(sorted(parameters, key=lambda p: p.default is not inspect.Parameter.empty))

    def decorate(pipeline: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(pipeline)
        def with_parameters(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            return pipeline(**{key: {n: given[n] for n in group if n in given} for key, group in groups.items()})

        described = "\n".join(f"    {name}: {_describe(field)}" for name, field in fields.items())
        with_parameters.__doc__ = f"{inspect.getdoc(pipeline)}\n\nArgs:\n{described}\n"
        with_parameters.__signature__ = signature  # type: ignore[attr-defined]
        with_parameters.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return with_parameters

    return decorate


def _describe(field: FieldInfo) -> str:
    """A field's description in one line, with its choices if it has any: KFP's form cannot offer them."""
    text = " ".join((field.description or "").split())
    is_choice = get_origin(field.annotation) is Literal
    return f"{text} One of: {', '.join(get_args(field.annotation))}." if is_choice else text


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    kind = parameter_type(field)
    default: Any = inspect.Parameter.empty
    if not field.is_required():
        default = field.get_default(call_default_factory=True)
        if hasattr(default, "model_dump"):
            default = {key: value for key, value in default.model_dump().items() if value}
        default = kind(default)
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)
