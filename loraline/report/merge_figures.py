"""The merged model against the adapter on its base: differences on one scale, and what else was compared."""

from loraline.artifacts.merging import GreedyReport, KlReport, MergeReport
from loraline.report.charts import LogScale, log_scale
from loraline.report.formatting import figure


def merge_scale(merge: MergeReport) -> LogScale | None:
    """Differences of logits on one scale: by the merge, by the quantization, and by the adapter; None if unmeasured."""
    if merge.max_abs_logit_difference is None:
        return None
    quantized = merge.quantized.max_abs_logit_difference if merge.quantized else None
    return log_scale(
        {
            "mean difference": (merge.mean_abs_logit_difference, "minor"),
            "largest difference": (merge.max_abs_logit_difference, "main"),
            "against the quantized base": (quantized, "minor"),
            "largest effect of the adapter": (merge.max_adapter_effect, "minor"),
        }
    )


def merge_facts(merge: MergeReport) -> list[tuple[str, str]]:
    """What else was compared; what was not is left out."""
    facts = []
    if merge.effect_kept is not None:
        allowed = f"{figure(merge.max_effect_change)} from 1 allowed"
        facts.append(("the adapter's effect kept", f"{merge.effect_kept:.4f}, {allowed}"))
    mean, high = merge.relative_divergences
    if mean is not None and high is not None:
        allowed = f"{figure(merge.max_divergence)} allowed"
        facts.append(
            ("divergence beside the adapter's", f"mean {figure(mean)}, 99th percentile {figure(high)}, {allowed}")
        )
    if merge.kl_divergence:
        facts.append(("KL divergence", _divergence(merge.kl_divergence)))
    if merge.adapter_kl_divergence:
        facts.append(("KL divergence by the adapter", _divergence(merge.adapter_kl_divergence)))
    if merge.greedy:
        facts.append(("greedy answers", _greedy(merge.greedy)))
    if merge.prompts:
        template = f"{figure(len(merge.prompts))} tokenized with the merged model's own chat template"
        facts.append(("prompts as served", template))
    return facts


def _divergence(found: KlReport) -> str:
    return f"mean {figure(found.mean)} nats, 99th percentile {figure(found.p99)}, largest {figure(found.max)}"


def _greedy(found: GreedyReport) -> str:
    ties = f"; {figure(found.ties)} more up to a tie between two tokens" if found.ties else ""
    return f"{figure(found.equal)} of {figure(found.examples)} identical, token by token{ties}"
