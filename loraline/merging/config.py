"""Settings of the merge and of the parity check that follows it."""

from pydantic import Field

from loraline.config import StepConfig


class MergeConfig(StepConfig):
    """How the merged model is compared with the adapter on its base, and the thresholds of that comparison."""

    max_logit_difference: float = Field(default=0.5, gt=0)
    """Largest allowed absolute difference of any logit between adapter-on-base and merged model. Both compute in
    float32, so that only the rounding of the merged weights to the base's dtype counts."""
    max_kl_divergence: float = Field(default=0.005, gt=0)
    """Largest allowed Kullback-Leibler divergence (nats) of the next-token distribution at any position, from
    adapter-on-base to merged model, both in float32. On random Llamas rounding alone makes 5e-7 in float32, 1e-6 to
    6e-5 in float16, 2e-6 to 2.5e-3 in bfloat16; a lora_alpha 10% off makes 9e-3 with an adapter that changes logits
    by 3."""
    parity_examples: int = Field(default=16, ge=1)
    """Evaluation rows on which the two are compared, those with the lowest content hash."""
    generated_tokens: int = Field(default=32, ge=1)
    """Length (tokens) of the greedy completion of each of these rows' prompts; both models must choose the same."""
