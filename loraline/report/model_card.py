"""The model card: README.md in Hugging Face's format, made from the evidence."""

from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from loraline.evidence.schema import Evidence
from loraline.report import formatting, risks
from loraline.report.data_findings import findings
from loraline.report.evidence_view import EvidenceView
from loraline.report.lineage import model_name, provenance, run_tags
from loraline.report.markdown import checks_table, figures_table, intervals_table
from loraline.report.rendering import render_markdown

# The Hub's names of our metrics, where it has one.
_HUB_METRICS = {"exact_match": "exact_match", "token_f1": "f1", "rouge_l": "rouge", "perplexity": "perplexity"}


def model_card(bundle: Evidence, registration: dict[str, Any] | None = None) -> str:
    """Make the card: metadata as YAML between dashes, then prose.

    Args:
        bundle: the evidence.
        registration: registration.json, where the model was registered.
    """
    evidence = EvidenceView.of(bundle)
    name = model_name(evidence)
    body = render_markdown(
        "model_card.md.j2",
        name=name,
        base=(evidence.lineage.get("model") or {}).get("source") or "its base model",
        data_source=(evidence.lineage.get("data") or {}).get("source") or "its training data",
        verdict=evidence.verdict,
        table=figures_table(evidence),
        intervals=intervals_table(evidence),
        checks=checks_table(evidence) if evidence.checks else "",
        champion=evidence.champion,
        policy=evidence.safety.policy if evidence.safety else "",
        forgetting=evidence.forgetting,
        tasks=risks.tasks(evidence),
        rates=risks.rates(evidence),
        data_table=_data_table(evidence),
        training_table=_training_table(evidence),
        provenance=[*provenance(evidence), *run_tags(registration or {})],
        registration=registration,
        merge=evidence.merge or {},
        merge_facts=risks.merge_facts(evidence.merge or {}),
        limits=_limits(evidence),
    )
    return f"---\n{_metadata(evidence, name).to_yaml()}\n---\n\n{body}"


def _data_table(evidence: EvidenceView) -> list[tuple[str, str]]:
    data = evidence.data or {}
    counts = {name.replace("_", " "): formatting.figure(count) for name, count in (data.get("rows") or {}).items()}
    return [
        ("fingerprint", str(data.get("fingerprint", formatting.NONE))),
        *((f"rows {key}", n) for key, n in counts.items()),
        *((finding.title, f"{finding.amount} {finding.note}") for finding in findings(data)),
    ]


def _limits(evidence: EvidenceView) -> list[str]:
    """What was found that a user has to know."""
    found = [f"{one.title}: {one.amount} {one.note}" for one in findings(evidence.data or {}) if one.is_concern]
    if evidence.verdict.verdict != "promote":
        found.insert(0, "It was rejected: it is kept to be looked at, not to be used")
    return [f"{one}." for one in found]


def _training_table(evidence: EvidenceView) -> list[tuple[str, str]]:
    """The settings, and what they came to."""
    settings = (evidence.lineage.get("recipe") or {}).get("training") or {}
    training = evidence.training or {}
    shown = [(key.replace("_", " "), formatting.setting(value)) for key, value in settings.items()]
    came_to = ("steps", "final_loss", "tokens", "labelled_tokens", "tokens_per_second", "trainable_parameters")
    shown += [(key.replace("_", " "), formatting.figure(training[key])) for key in came_to if key in training]
    return [*shown, ("time", formatting.duration(training.get("seconds")))]


def _metadata(evidence: EvidenceView, name: str) -> ModelCardData:
    data = evidence.lineage.get("data") or {}
    base = str((evidence.lineage.get("model") or {}).get("source") or "")
    results = _results(evidence, data)
    return ModelCardData(
        base_model=base if _is_hub_id(base) else None,
        datasets=[data["source"].removeprefix("hf://")] if str(data.get("source", "")).startswith("hf://") else None,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["lora", "loraline"],
        model_name=name if results else None,
        eval_results=results or None,
        metrics=[_HUB_METRICS[result.metric_name] for result in results if result.metric_name] or None,
    )


def _results(evidence: EvidenceView, data: dict[str, Any]) -> list[EvalResult]:
    source = str(data.get("source") or "unknown")
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=source.removeprefix("hf://"),
            dataset_name=PurePosixPath(source).name or source,
            dataset_split="held-out",
            dataset_revision=data.get("revision") or None,
            metric_type=hub_name,
            metric_name=name,
            metric_value=round(evidence.tuned[name], 6),
        )
        for name, hub_name in _HUB_METRICS.items()
        if evidence.tuned and evidence.tuned.get(name) is not None
    ]


def _is_hub_id(source: str) -> bool:
    """Whether a base model is named as the Hub names it: owner/name, or an old name without owner."""
    return bool(source) and ":" not in source and not source.startswith((".", "/", "~")) and source.count("/") <= 1
