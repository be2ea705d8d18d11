"""What may be set about evaluation."""

from pydantic import Field

from components.shared.config import StepConfig


class EvaluateConfig(StepConfig):
    """How many examples are scored, and how answers are generated."""

    max_examples: int = Field(default=500, ge=0)
    """Examples scored, those with the lowest content hash, so that adding data moves few. 0: all."""
    batch_size: int = Field(default=32, ge=1)
    """Examples generated side by side."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest answer, in tokens."""
