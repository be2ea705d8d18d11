"""What a model came from: recipe, sources and code, as the run began with them."""

from typing import Any

from loraline.artifacts.base import Report


class SourcePin(Report):
    """A source of rows or of a model, and the bytes that were behind its name."""

    source: str
    """As the recipe names it."""
    revision: str
    """Commit or registry version; empty where the source has none."""
    digest: str
    """Changes when the bytes behind the source change."""


class PolicyPin(Report):
    """The safety policy that a run applied."""

    source: str
    digest: str


class Lineage(Report):
    """What a model came from. It goes into the evidence and onto the model version."""

    recipe: dict[str, dict[str, Any]]
    """The whole recipe, by section, for people to read: nothing is decided by it, so that evidence stays readable
    when a release renames a setting."""
    recipe_digest: str
    model_name: str
    """Name of the registered model."""
    general_source: str
    """Where the general set is, on which forgetting is measured; empty: it was not asked for."""
    tasks: list[str]
    """Tasks of lm-evaluation-harness that were asked for."""
    data: SourcePin
    model: SourcePin
    policy: PolicyPin | None
    code_version: str = ""
    """Digest over code and libraries of every step behind the model, as its report states them; set by the gate."""
