"""What may be set about the merge."""

from pydantic import Field

from components.shared.config import StepConfig


class MergeConfig(StepConfig):
    """How the merged model is written, and how far it may be from the adapter on its base."""

    max_logit_difference: float = Field(default=0.5, gt=0)
    """Largest difference of any logit between adapter-on-base and merged. 16-bit rounding alone makes some."""
    parity_examples: int = Field(default=16, ge=1)
    """Evaluation rows on which the logits are compared."""
    max_shard_size: str = Field(default="5GB", pattern=r"^\d+(\.\d+)?(KB|MB|GB)$")
    """Largest safetensors shard of the merged model."""
