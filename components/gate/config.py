"""What may be set about the verdict."""

from typing import Literal

from pydantic import Field

from components.shared.config import StepConfig


class GateConfig(StepConfig):
    """What the tuned model must achieve over its base to be promoted."""

    metric: Literal["loss", "exact_match", "token_f1", "rouge_l"] = "loss"
    """The figure that decides."""
    min_gain: float = Field(default=0.0, ge=0.0)
    """The tuned model must be better than the base by more than this (nats for loss, else fraction 0 to 1)."""
    min_examples: int = Field(default=20, ge=1)
    """Fewer scored examples than this is a reject."""
