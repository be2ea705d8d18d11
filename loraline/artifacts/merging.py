"""What merge_adapter hands on: how far the merged model is from the adapter on its base."""

from typing import ClassVar

from loraline.artifacts.base import Measured, Report, StepIdentity


class MeanMax(Report):
    """Mean and maximum of a figure over all positions."""

    mean: Measured
    max: Measured


class GreedyReport(Report):
    """Greedy answers of the merged model against those of the adapter on its base."""

    examples: int
    tokens: int
    """Tokens of all answers: as many choices were compared."""
    equal: int
    """Examples with the same answer, to the last token."""
    ties: int
    """Examples whose answers part where two tokens are as near as rounding. All others that part are unlike."""


class QuantizedReport(Report):
    """How far the merged 16-bit model is from what was trained and evaluated."""

    quantization: str
    max_abs_logit_difference: Measured
    mean_abs_logit_difference: Measured
    kl_divergence: MeanMax


class MergeReport(Report):
    """What the merge did, and how far the merged model is from the adapter on its base.

    The comparison needs evaluation rows. Without them its figures are None: not measured, which the gate rejects.
    """

    FILE: ClassVar[str] = "parity.json"

    identity: StepIdentity

    max_abs_logit_difference: Measured
    """Largest difference of any logit, both sides computed in float32."""
    mean_abs_logit_difference: Measured
    tolerance: float
    """What the largest difference may be."""
    kl_divergence: MeanMax | None
    """Divergence of the next token's probabilities, merged against adapter-on-base, in nats."""
    max_kl_divergence: float
    """What the largest divergence may be."""
    greedy: GreedyReport | None
    """Greedy answers of both to the rows' prompts."""
    prompts: dict[str, str]
    """By row id, the digest of the prompt that a server makes with the merged model's own tokenizer and template."""
    quantized: QuantizedReport | None
    """Where training ran on a quantized base: the merged model against the adapter on that one. It holds what
    quantizing took from the base, so that it has no threshold."""
    max_adapter_effect: Measured
    """Largest change of any logit by the adapter: against it the difference is to be seen."""
    mean_adapter_effect: Measured
    adapter_kl_divergence: MeanMax | None
    """Divergence that the adapter itself makes, adapter-on-base against base."""
    examples: int
    """Rows compared, each at every position up to a length of 256 tokens; 0 if parity was not measured."""
    positions: int
    """Tokens compared."""
    base_digest: str
    """Digest of the base that the adapter went into."""
    adapter_digest: str
    """Digest of the adapter's folder, and of the merged model's: what this report, and the evidence, speaks of."""
    merged_digest: str
    merged_tensors: int
    """Weights that the adapter changed; the others are the base's, byte for byte."""
    seconds: float

    @property
    def exceeds_thresholds(self) -> bool:
        """Whether the merged model was compared and differs by more than is allowed; NaN is more."""
        if self.examples == 0:
            return False
        divergence = self.kl_divergence.max if self.kl_divergence else None
        limits = ((self.max_abs_logit_difference, self.tolerance), (divergence, self.max_kl_divergence))
        return any(value is None or value > limit for value, limit in limits)

    def headline(self) -> str:
        """The comparison in a line."""
        if self.kl_divergence is None or self.greedy is None:
            return "parity not measured: no rows to compare the merged model with the adapter on its base"
        return (
            f"largest logit difference {_figure(self.max_abs_logit_difference)} of {self.tolerance:g} allowed, "
            f"{self.greedy.equal} of {self.greedy.examples} greedy answers equal"
        )


def _figure(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.3g}"
