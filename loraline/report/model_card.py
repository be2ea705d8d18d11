"""The model card: README.md in Hugging Face's format, rendered from the evidence."""

from pathlib import PurePosixPath

from huggingface_hub import EvalResult, ModelCardData

from loraline.artifacts.evaluation import FigureName
from loraline.artifacts.registration import Registration
from loraline.data.source_address import parse_address
from loraline.evidence.lineage import SourcePin
from loraline.evidence.schema import Evidence
from loraline.report.dataset_checks import dataset_checks
from loraline.report.formatting import duration, figure, setting
from loraline.report.markdown import checks_table, comparisons_table, metrics_table
from loraline.report.merge_figures import merge_facts
from loraline.report.metric_table import details_of_unmeasured, model_figure, task_rows
from loraline.report.provenance import provenance, run_tags
from loraline.report.rendering import render_markdown
from loraline.report.safety_figures import safety_rates

_HUB_METRICS: dict[FigureName, str] = {
    "exact_match": "exact_match",
    "token_f1": "f1",
    "rouge_l": "rouge",
    "json_f1": "f1",
    "perplexity": "perplexity",
}
"""The Hub's names of our metrics, where it has one."""


def render_model_card(evidence: Evidence, registration: Registration | None = None) -> str:
    """Render the card: metadata as YAML between dashes, then Markdown.

    Args:
        evidence: of the run.
        registration: where the model was registered; None where it was not.
    """
    body = render_markdown(
        "model_card.md.j2",
        evidence=evidence,
        verdict=evidence.verdict,
        lineage=evidence.lineage,
        champion=evidence.champion.champion if evidence.champion else None,
        registration=registration,
        metrics=metrics_table(evidence),
        comparisons=comparisons_table(evidence),
        checks=checks_table(evidence),
        tasks=task_rows(evidence),
        rates=safety_rates(evidence),
        merge_facts=merge_facts(evidence.merge) if evidence.merge else [],
        data_table=_data_table(evidence),
        training_table=_training_table(evidence),
        provenance=[*provenance(evidence), *run_tags(registration)],
        limits=_limits(evidence),
        not_measured=details_of_unmeasured(evidence),
    )
    return f"---\n{_metadata(evidence).to_yaml()}\n---\n\n{body}"


def _data_table(evidence: Evidence) -> list[tuple[str, str]]:
    data = evidence.data
    if data is None:
        return []
    rows = data.rows
    counts = {
        "read": rows.read,
        "in train": rows.train,
        "in eval": rows.eval,
        "dropped": rows.read - rows.train - rows.eval,
    }
    return [
        ("fingerprint", data.fingerprint),
        *((f"rows {name}", figure(count)) for name, count in counts.items()),
        *((check.title, check.summary) for check in dataset_checks(data)),
    ]


def _training_table(evidence: Evidence) -> list[tuple[str, str]]:
    """The settings of training, and its totals."""
    settings = evidence.lineage.recipe.get("training", {})
    shown = [(name.replace("_", " "), setting(value)) for name, value in settings.items()]
    training = evidence.training
    if training is None:
        return shown
    return [
        *shown,
        ("optimizer steps", figure(training.steps)),
        ("final loss", figure(training.final_loss)),
        ("tokens", figure(training.tokens)),
        ("tokens with loss", figure(training.labelled_tokens)),
        ("tokens per second", figure(training.tokens_per_second)),
        ("trainable parameters", figure(training.trainable_parameters)),
        ("time", duration(training.seconds)),
    ]


def _limits(evidence: Evidence) -> list[str]:
    """What a user of the model has to know of its data and its verdict."""
    checks = dataset_checks(evidence.data) if evidence.data else []
    limits = [f"{check.title.capitalize()}: {check.summary}." for check in checks if check.needs_attention]
    limits += [f"{detail[0].upper()}{detail[1:]}." for detail in details_of_unmeasured(evidence).values()]
    if evidence.verdict.verdict == "reject":
        limits.insert(0, "The gate rejected it: it is kept for analysis and not for use.")
    return limits


def _metadata(evidence: Evidence) -> ModelCardData:
    data, base = evidence.lineage.data, evidence.lineage.model.source
    results = _results(evidence, data)
    return ModelCardData(
        base_model=base if _is_hub_id(base) else None,
        datasets=_hub_datasets(data) or None,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["lora", "loraline"],
        model_name=evidence.lineage.model_name if results else None,
        eval_results=results or None,
        metrics=[result.metric_type for result in results] or None,
    )


def _hub_datasets(data: SourcePin) -> list[str]:
    """Ids of the sources that are on the Hub, without configuration, split and slice."""
    names = [name for name in data.source.split(", ") if name.startswith("hf://")]
    return list(dict.fromkeys(parse_address(name)[0].source.removeprefix("hf://") for name in names))


def _results(evidence: Evidence, data: SourcePin) -> list[EvalResult]:
    figures = {name: model_figure(evidence, "tuned", name) for name in _HUB_METRICS}
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=next(iter(_hub_datasets(data)), data.source),
            dataset_name=PurePosixPath(data.source).name or data.source,
            dataset_split="held-out",
            dataset_revision=data.revision or None,
            metric_type=_HUB_METRICS[name],
            metric_name=name,
            metric_value=round(value, 6),
        )
        for name, value in figures.items()
        if value is not None
    ]


def _is_hub_id(source: str) -> bool:
    """Whether a base model is named as on the Hub: owner/name, or an old name without owner."""
    return bool(source) and ":" not in source and not source.startswith((".", "/", "~")) and source.count("/") <= 1
