"""The recipe's fields as the flat, typed, described parameters of a KFP pipeline."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from components.recipe import parameter_places, parameter_type, section_class


def takes_recipe(pipeline: Callable[..., Any]) -> Callable[..., Any]:
    """Give a pipeline function the recipe's fields as its parameters, with their types, defaults and descriptions.

    KFP reads a pipeline's parameters off its signature and their descriptions off its docstring. Made from
    the configuration classes, neither can drift from them.
    """
    fields = {name: section_class(s).model_fields[f] for name, (s, f) in parameter_places().items()}
    # A parameter without a default must come first: KFP keeps the order in its form.
    signature = inspect.Signature(
        sorted(
            (_parameter(name, field) for name, field in fields.items()),
            key=lambda p: p.default is not inspect.Parameter.empty,
        )
    )

    @functools.wraps(pipeline)
    def with_parameters(*args: Any, **kwargs: Any) -> Any:
        return pipeline(**signature.bind(*args, **kwargs).arguments)

    described = "\n".join(f"    {name}: {' '.join((f.description or '').split())}" for name, f in fields.items())
    with_parameters.__doc__ = f"{inspect.getdoc(pipeline)}\n\nArgs:\n{described}\n"
    with_parameters.__signature__ = signature  # type: ignore[attr-defined]
    with_parameters.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return with_parameters


def _parameter(name: str, field: Any) -> inspect.Parameter:
    kind = parameter_type(field)
    default: Any = inspect.Parameter.empty
    if not field.is_required():
        default = field.get_default(call_default_factory=True)
        default = {k: v for k, v in default.model_dump().items() if v} if kind is dict else kind(default)
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)
