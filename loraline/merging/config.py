"""What may be set about the merge."""

from pydantic import Field

from loraline.config import StepConfig


class MergeConfig(StepConfig):
    """How the merged model is compared with the adapter on its base, and how far from it it may be."""

    max_logit_difference: float = Field(default=0.5, gt=0)
    """Largest difference of any logit between adapter-on-base and merged, both computed in float32, so that
    nothing counts but the rounding of the merged weights to the base's type."""
    max_kl_divergence: float = Field(default=0.005, gt=0)
    """Largest Kullback-Leibler divergence (nats) of the next token's probabilities at any position, merged against
    adapter-on-base, both computed in float32. On random Llamas rounding makes 5e-7 in float32, 1e-6 to 6e-5 in
    float16, 2e-6 to 2.5e-3 in bfloat16; an alpha 10% off makes 9e-3 with an adapter that changes logits by 3."""
    parity_examples: int = Field(default=16, ge=1)
    """Evaluation rows on which the two are compared, those with the lowest content hash."""
    generated_tokens: int = Field(default=32, ge=1)
    """Tokens that each of these rows' prompts is answered with, greedily; both sides must choose the same."""
