"""The base of every step's configuration."""

import json
from typing import Self

from pydantic import BaseModel, ConfigDict


class StepConfig(BaseModel):
    """A step's settings: immutable, checked when made, with the only defaults there are.

    The docstring under a field is its description, in `loraline validate`, in the KFP form and in the docs.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        validate_default=True,
    )

    @classmethod
    def from_settings(cls, settings: str) -> Self:
        """Read the JSON that `resolve_recipe` hands to a step.

        Settings travel as text because KFP turns the integers of a dict into floats and refuses nulls.
        The code digest that comes along is there for KFP's cache key and is of no use to the step.
        """
        return cls.model_validate(json.loads(settings)["config"])
