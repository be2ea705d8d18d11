"""What merge_adapter hands on: how far the merged model is from the adapter on its base."""

from typing import ClassVar

from loraline.artifacts.base import Measured, Report, StepIdentity


class KlReport(Report):
    """Kullback-Leibler divergence of the next token's distribution, over all positions, in nats."""

    mean: Measured
    p99: Measured
    """What 99 of 100 positions stay below."""
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
    kl_divergence: KlReport


class MergeReport(Report):
    """What the merge did, and how far the merged model is from the adapter on its base.

    The comparison needs evaluation rows. Without them its figures are None: not measured, which the gate rejects.
    """

    FILE: ClassVar[str] = "parity.json"

    identity: StepIdentity

    max_abs_logit_difference: Measured
    """Largest difference of any logit, both sides computed in float32."""
    mean_abs_logit_difference: Measured
    kl_divergence: KlReport | None
    """Divergence of the next token's probabilities, merged against adapter-on-base, in nats."""
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
    adapter_kl_divergence: KlReport | None
    """Divergence that the adapter itself makes, adapter-on-base against base."""
    max_divergence: float
    """What mean and 99th percentile of the merge's divergence may be, as parts of the adapter's own."""
    effect_kept: Measured
    """Part of the adapter's effect that the merged model has (`loraline.merging.effect`): 1 is all of it."""
    max_effect_change: float
    """By how much it may differ from 1."""
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
    def relative_divergences(self) -> tuple[float | None, float | None]:
        """Mean and 99th percentile of the merge's divergence as parts of the adapter's; None where not computable."""
        ours, theirs = self.kl_divergence, self.adapter_kl_divergence
        if ours is None or theirs is None:
            return None, None
        return _ratio(ours.mean, theirs.mean), _ratio(ours.p99, theirs.p99)

    @property
    def exceeds_thresholds(self) -> bool:
        """Whether the merged model was compared and differs by more than is allowed; NaN is more."""
        if self.examples == 0:
            return False
        change = None if self.effect_kept is None else abs(self.effect_kept - 1)
        limits = [(change, self.max_effect_change)]
        limits += [(value, self.max_divergence) for value in self.relative_divergences]
        return any(value is None or value > limit for value, limit in limits)

    def headline(self) -> str:
        """The comparison in a line."""
        if self.kl_divergence is None or self.greedy is None:
            return "parity not measured: no rows to compare the merged model with the adapter on its base"
        mean, _ = self.relative_divergences
        return (
            f"{_figure(self.effect_kept)} of the adapter's effect kept, a divergence of {_figure(mean)} of its own, "
            f"{self.greedy.equal} of {self.greedy.examples} greedy answers equal"
        )


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _figure(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.3g}"
