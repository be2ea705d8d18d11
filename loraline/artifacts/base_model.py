"""What load_model hands on: a model folder's manifest."""

from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from loraline.artifacts.base import Report, StepIdentity


class ResolvedDevice(Report):
    """Device, dtype and attention implementation that a recipe's settings resolve to on one machine."""

    device: str
    """A device of torch, such as cpu or cuda."""
    compute_dtype: str
    """bfloat16, float16 or float32."""
    attention: str
    """The attention implementation of transformers: flash_attention_2, sdpa or eager."""
    attention_reason: str
    """Why this one."""


class ModelManifest(Report):
    """What load_model records of a model folder. Every field has a default, for folders without a manifest."""

    model_config = ConfigDict(extra="forbid")

    FILE: ClassVar[str] = "loraline.json"

    source: str = ""
    """Where the model came from, as the recipe names it."""
    revision: str = ""
    """Commit of the Hub or version in the model registry; empty for other sources."""
    digest: str = ""
    """sha256 over the names and contents of the model's files; for a quantized model, those of its base."""
    quantization: Literal["none", "int8", "nf4"] = "none"
    compute_dtype: str = "auto"
    """Dtype of weights and computation that the recipe asks for."""
    device: str = "auto"
    """Device that the recipe asks for."""
    attention: str = "auto"
    """Attention implementation that the recipe asks for."""
    chat_template_kwargs: dict[str, Any] = Field(default={})
    """Values of the chat template's variables, which the folder's template has as its defaults."""
    trust_remote_code: bool = False
    resolved: ResolvedDevice | None = None
    """What the settings above resolved to on the machine of load_model, for the evidence. Other steps resolve anew."""
    parameters: int = 0
    """Weights in the base's files; those that are tied count once. 0 where they were not counted."""
    identity: StepIdentity | None = None
    """Of the step that wrote the folder; None for a folder from elsewhere."""
