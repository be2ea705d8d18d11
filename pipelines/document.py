"""docs/parameters.md: every parameter, from the configuration classes themselves. `make docs` writes it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from loraline.recipe import Recipe, parameter_places, parameter_type, section_class
from loraline.registry.promotion_config import PromotionConfig
from pipelines.placement import PlacementConfig

PAGE = Path(__file__).parents[1] / "docs/parameters.md"

_HEAD = """\
# Parameters

Written by `make docs` from the configuration classes. Do not edit.

A parameter's name is what KFP's form shows and what `loraline submit -p` takes; `section.field` is the same setting in
a recipe file and on the command line (`training.rank=8`), and in the environment it is `LORALINE_SECTION__FIELD`.
"""
_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def parameters_page() -> str:
    """The page, as Markdown."""
    return "\n".join([_HEAD, *_recipe(), *_placement(), *_promotion()])


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(parameters_page(), encoding="utf-8")


def _recipe() -> Iterator[str]:
    names = {place: name for name, place in parameter_places().items()}
    for section, field in Recipe.model_fields.items():
        fields = {names[section, name]: one for name, one in section_class(section).model_fields.items()}
        places = {names[section, name]: f"{section}.{name}" for name in section_class(section).model_fields}
        yield f"## {section}\n\n{_sentence(field)}\n\n{_table(fields, places)}\n"


def _placement() -> Iterator[str]:
    yield (
        "## Where steps run\n\nNot part of a recipe: `loraline submit mine.yaml -p gpu_memory=80Gi`, or the form."
        f" The run on one machine has no use for them.\n\n{_table(PlacementConfig.model_fields)}\n"
    )


def _promotion() -> Iterator[str]:
    yield f"## Promotion\n\nOf the pipeline `loraline-promote`.\n\n{_table(PromotionConfig.model_fields)}\n"


def _table(fields: Mapping[str, FieldInfo], places: Mapping[str, str] | None = None) -> str:
    columns = ["parameter", *(["in a recipe"] if places else []), "type", "default", "allowed", "what it is"]
    rows = [columns, ["---"] * len(columns)]
    for name, field in fields.items():
        place = [f"`{places[name]}`"] if places else []
        kind = parameter_type(field).__name__
        rows.append([f"`{name}`", *place, kind, _default(field), _allowed(field), _sentence(field)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        value = {key: one for key, one in value.model_dump().items() if one}
    return "empty" if value in ("", [], {}) else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    """A value as YAML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')


def _allowed(field: FieldInfo) -> str:
    """Choices, bounds, or the keys of a mapping."""
    kind = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "keys " + ", ".join(f"`{key}`" for key in kind.model_fields)
    found = [
        f"{sign} {_plain(getattr(one, name))}"
        for one in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(one, name, None) is not None
    ]
    if any(getattr(one, "min_length", 0) for one in field.metadata):
        found.append("not empty")
    return ", ".join(found)


def _sentence(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
