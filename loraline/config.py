"""The base of every step's configuration."""

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
