"""What may be set about the merge."""

from pydantic import Field

from components.shared.config import StepConfig


class MergeConfig(StepConfig):
    """How the merged model is compared with the adapter on its base, and how far from it it may be."""

    max_logit_difference: float = Field(default=0.5, gt=0)
    """Largest difference of any logit between adapter-on-base and merged, both computed in float32, so that
    nothing counts but the rounding of the merged weights to the base's type."""
    parity_examples: int = Field(default=16, ge=1)
    """Evaluation rows on which the logits are compared, those with the lowest content hash."""
