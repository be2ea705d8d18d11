"""The tags of a model version: its digests, its lineage, and the figures of its evidence."""

from typing import get_args

from loraline.artifacts.evaluation import MetricName
from loraline.evidence.schema import Evidence
from loraline.registry.files import FileList

DIGEST_TAG = "content_digest"
PAGES_TAG = "pages_digest"
"""Digest of the rendered pages; registering the same model again updates it."""
VERDICT_TAG = "verdict"

RUN_TAGS = ("mlflow_run", "pipeline_run", "gpu_image", "light_image")
"""The run that created the version, and its images. Only the registering step knows them; the evidence does not."""


def evidence_tags(evidence: Evidence, files: FileList) -> dict[str, str]:
    """The tags that follow from the evidence and the files; an empty value has no tag."""
    verdict, champion = evidence.verdict, evidence.champion.champion if evidence.champion else None
    values: dict[str, str | int | float | None] = {
        VERDICT_TAG: verdict.verdict,
        DIGEST_TAG: files.digest,
        PAGES_TAG: files.pages_digest,
        "adapter_digest": files.adapter_digest,
        "merged_digest": files.merged_digest,
        **_lineage_tags(evidence),
        "metric": verdict.metric,
        "gain": verdict.gain,
        "gain_lower": verdict.lower,
        "gain_upper": verdict.upper,
        "examples": verdict.examples,
        "evaluated_as": verdict.evaluated_as,
        "not_measured": ", ".join(verdict.not_measured),
        "margin_spent": verdict.margin_spent,
        "compared_with_version": champion.version if champion else None,
    }
    for model, report in (("base", evidence.base), ("tuned", evidence.tuned)):
        metrics: tuple[MetricName, ...] = get_args(MetricName)
        values |= {f"{model}_{name}": report.figure(name) if report else None for name in metrics}
    return {key: _text(value) for key, value in values.items() if value not in (None, "")}


def _lineage_tags(evidence: Evidence) -> dict[str, str | int | float | None]:
    """Lineage: data, base, recipe, code and policy."""
    lineage = evidence.lineage
    return {
        "data_source": lineage.data.source,
        "data_revision": lineage.data.revision,
        "data_digest": lineage.data.digest,
        "dataset_fingerprint": evidence.data.fingerprint if evidence.data else None,
        "base_source": lineage.model.source,
        "base_revision": lineage.model.revision,
        # The digest of the source, which may be a commit, and that of the files that were fetched from it.
        "base_digest": lineage.model.digest,
        "base_files_digest": evidence.training.base_digest if evidence.training else None,
        "recipe_digest": lineage.recipe_digest,
        "code_version": lineage.code_version,
        "policy": lineage.policy.source if lineage.policy else None,
        "policy_digest": lineage.policy.digest if lineage.policy else None,
    }


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
