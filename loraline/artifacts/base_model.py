"""What load_model hands on: a model folder's manifest."""

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from loraline.artifacts.base import Report, StepIdentity


class ModelManifest(Report):
    """What load_model knows of a model folder. Every field has a default, for folders that have none."""

    model_config = ConfigDict(extra="forbid")

    FILE: ClassVar[str] = "loraline.json"

    source: str = ""
    """Where the model came from, as the recipe names it."""
    revision: str = ""
    """Commit, registry version, or digest of what lay at the source."""
    digest: str = ""
    """sha256 over the names and contents of the model's files; for a quantized model, those of its base."""
    quantization: Literal["none", "int8", "nf4"] = "none"
    compute_dtype: str = "auto"
    """Type of weights and arithmetic that the recipe asks for."""
    device: str = "auto"
    """Device that the recipe asks for."""
    attention: str = "auto"
    """Attention implementation that the recipe asks for."""
    trust_remote_code: bool = False
    taken: dict[str, str] = Field(default={})
    """Device, type and attention that load_model's machine took, and why; for the evidence."""
    parameters: int = 0
    """Weights in the base's files, those that are shared counted once. 0 where nobody counted."""
    identity: StepIdentity | None = None
    """Of the step that wrote the folder; None for a folder from elsewhere."""
