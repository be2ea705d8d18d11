"""The recipe: every step's settings together, as people write them and as KFP's form asks for them."""

import difflib
import json
from collections import Counter
from collections.abc import Iterable
from functools import cache
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic import ValidationError as PydanticValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from loraline.config import StepConfig
from loraline.data.config import DataConfig
from loraline.errors import ConfigurationError
from loraline.evaluation.config import EvaluateConfig
from loraline.gate.config import GateConfig
from loraline.identity.digests import json_digest
from loraline.merging.config import MergeConfig
from loraline.models.config import ModelConfig
from loraline.models.footprint import FootprintConfig
from loraline.recipe_data import settings_for_data
from loraline.registry.config import RegistryConfig
from loraline.safety.config import SafetyConfig
from loraline.training.config import TrainConfig

# Former names of settings, which get_close_matches alone would take for others.
_FORMER_NAMES = {
    "schedule": "lr_scheduler_type",
    "warmup_fraction": "warmup_ratio",
    "gradient_accumulation": "gradient_accumulation_steps",
    "gradient_clipping": "max_grad_norm",
    "eval_every": "eval_steps",
    "checkpoint_every": "save_steps",
}


class Recipe(StepConfig):
    """One fine-tuning, whole."""

    data: DataConfig
    """Where rows come from and which of them are used."""
    model: ModelConfig
    """Which base model, and how it is held in memory."""
    training: TrainConfig = TrainConfig()
    """The adapter, the optimizer and the learning rate schedule."""
    evaluation: EvaluateConfig = EvaluateConfig()
    """How many examples are scored, and how answers are generated."""
    safety: SafetyConfig = SafetyConfig()
    """What the model may be taught, asked and made to say."""
    merge: MergeConfig = MergeConfig()
    """How the merged model is written, and how far it may be from the adapter on its base."""
    gate: GateConfig = GateConfig()
    """What the tuned model must achieve over its base to be promoted."""
    registry: RegistryConfig
    """Where a promoted model goes."""

    @classmethod
    def checked(cls, values: dict[str, Any]) -> "Recipe":
        """Build a recipe from nested values, which may have settings that hold for some data alone (`for_data`).

        Raises:
            ConfigurationError: with every invalid value at once: where it stands, what it is, what is allowed.
        """
        try:
            return cls.model_validate(settings_for_data(values))
        except PydanticValidationError as error:
            problems = [_problem(one) for one in error.errors()]
            raise ConfigurationError(
                f"the recipe has {len(problems)} invalid value{'s' * (len(problems) > 1)}:\n" + "\n".join(problems)
            ) from error

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> "Recipe":
        """Build a recipe from flat KFP parameters, as a form gives them (the inverse of `parameters`).

        Raises:
            ConfigurationError: with every invalid value at once.
        """
        sections: dict[str, dict[str, Any]] = {section: {} for section in cls.model_fields}
        for name, (section, field) in parameter_places().items():
            if name in parameters:
                sections[section][field] = parameters[name]
        return cls.checked(sections)

    def parameters(self) -> dict[str, Any]:
        """The recipe as flat KFP parameters, each of the type that `parameter_type` names."""
        values = self.model_dump(mode="json")
        named = {name: values[section][field] for name, (section, field) in parameter_places().items()}
        fields = {name: section_class(s).model_fields[f] for name, (s, f) in parameter_places().items()}
        return {
            name: value if isinstance(value, str) or parameter_type(fields[name]) is not str else json.dumps(value)
            for name, value in named.items()
        }

    def footprint(self) -> FootprintConfig:
        """The part of the training settings that decides how much memory is needed."""
        return self.training.footprint()

    def digest(self) -> str:
        """SHA-256 over all settings."""
        return json_digest(self.model_dump(mode="json"))


@cache
def parameter_places() -> dict[str, tuple[str, str]]:
    """Where each flat KFP parameter stands in the recipe: name -> (section, field).

    A parameter is named after its field; where two sections have a field of that name, the section stands before it.
    """
    fields = [(section, field) for section in Recipe.model_fields for field in section_class(section).model_fields]
    names = Counter(field for _, field in fields)
    return {(f if names[f] == 1 else f"{s}_{f}"): (s, f) for s, f in fields}


def section_class(section: str) -> type[StepConfig]:
    """The configuration class behind a section of the recipe."""
    annotation = Recipe.model_fields[section].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, StepConfig)
    return annotation


def parameter_type(field: FieldInfo) -> Any:
    """The type that KFP gives to a parameter: str, int, float, bool, list or dict."""
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return str
    if isinstance(annotation, UnionType) and str in get_args(annotation):
        return str  # what is no text is handed over as JSON
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return dict
    plain = get_origin(annotation) or annotation
    assert plain in (str, int, float, bool, list, dict), f"no KFP type for {annotation!r}"
    return plain


def _problem(error: ErrorDetails) -> str:
    """One invalid value in one line: its path, the value, and what is allowed there."""
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"  {path}: missing. {_description(error['loc'])}"
    if error["type"] == "extra_forbidden":
        return f"  {path} = {error['input']!r}: there is no such setting.{_suggestion(error['loc'])}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"  {path} = {error['input']!r}: {message}"


def _fields_at(path: tuple[int | str, ...]) -> dict[str, FieldInfo]:
    """The fields of the section that a path leads into; none where it leads nowhere."""
    fields = Recipe.model_fields
    for part in path:
        field = fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return {}
        fields = field.annotation.model_fields
    return fields


def _description(path: tuple[int | str, ...]) -> str:
    field = _fields_at(path[:-1]).get(str(path[-1]))
    return (field.description or "") if field else ""


def _suggestion(path: tuple[int | str, ...]) -> str:
    known = _fields_at(path[:-1])
    near = closest_name(str(path[-1]), known)
    return f" Did you mean {near!r}?" if near else f" There are: {', '.join(known)}."


def closest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known setting that an unknown name most likely stands for; None if none is similar."""
    names = {one: one for one in known}
    names |= {former: new for former, new in _FORMER_NAMES.items() if new in names}
    near = difflib.get_close_matches(name, names, n=1)
    return names[near[0]] if near else None
