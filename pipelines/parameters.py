"""Configuration classes as the flat, typed, described parameters of a KFP pipeline."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from loraline.recipe import parameter_places, parameter_type, section_class

Fields = Mapping[str, FieldInfo]
"""Name of a parameter -> the field of a configuration class that it stands for."""


def recipe_fields() -> Fields:
    """The recipe's fields by the names that they have in KFP's form, in the order in which a person fills them in."""
    return {name: section_class(s).model_fields[f] for name, (s, f) in parameter_places().items()}


def takes(**groups: Fields) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a pipeline function fields as its flat parameters; it gets them back as one dictionary a group.

    KFP reads a pipeline's parameters off its signature and their descriptions off its docstring. Made from
    the configuration classes, neither can drift from them. The order of the groups is the form's, but that
    what has no default comes first.
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
    """A field's description in one line, with its choices where it has any: KFP's form cannot offer them."""
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
