"""Settings of the merge and of the parity check that follows it."""

from pydantic import Field

from loraline.config import StepConfig


class MergeConfig(StepConfig):
    """How the merged model is compared with the adapter on its base, and the thresholds of that comparison."""

    max_divergence: float = Field(default=0.05, gt=0)
    """How far the merged model may be from the adapter on its base, as a part of how far the adapter is from its base:
    the mean Kullback-Leibler divergence of the next-token distributions, and its 99th percentile. docs/merging.md has
    figures of honest and wrong merges."""
    max_effect_change: float = Field(default=0.02, gt=0)
    """By how much the part of the adapter's effect that the merged model has may differ from 1."""
    parity_examples: int = Field(default=16, ge=1)
    """Evaluation rows on which the two are compared, those with the lowest content hash."""
    generated_tokens: int = Field(default=32, ge=1)
    """Length (tokens) of the greedy completion of each of these rows' prompts, which are compared for the report."""
