"""The tags that link a model version to all that it came from."""

from typing import Any

from loraline.evidence.schema import Evidence
from loraline.registry.files import FileList

DIGEST_TAG = "content_digest"
VERDICT_TAG = "verdict"

RUN_TAGS = ("mlflow_run", "pipeline_run", "gpu_image", "light_image")
"""Which run made the version, and in which images: only the registering step knows, so that no evidence says it."""

_FIGURES = ("loss", "exact_match", "token_f1", "rouge_l")


def evidence_tags(evidence: Evidence, files: FileList) -> dict[str, str]:
    """The tags that follow from the evidence and the files; what is empty has no tag."""
    verdict = evidence.verdict
    values = {
        VERDICT_TAG: verdict.verdict,
        DIGEST_TAG: files.digest,
        "adapter_digest": files.adapter_digest,
        "merged_digest": files.merged_digest,
        **_origins(evidence),
        "metric": verdict.metric,
        "gain": verdict.gain,
        "gain_lower": verdict.lower,
        "gain_upper": verdict.upper,
        "examples": verdict.examples,
        "compared_with_version": (evidence.champion or {}).get("version"),
    }
    for side, figures in (("base", evidence.base), ("tuned", evidence.tuned)):
        values |= {f"{side}_{name}": (figures or {}).get(name) for name in _FIGURES}
    return {key: _text(value) for key, value in values.items() if value not in (None, "")}


def _origins(evidence: Evidence) -> dict[str, Any]:
    """Data, base, recipe, code and policy."""
    lineage = evidence.lineage
    data, model, policy = (lineage.get(part) or {} for part in ("data", "model", "policy"))
    return {
        "data_source": data.get("source"),
        "data_revision": data.get("revision"),
        "data_digest": data.get("digest"),
        "dataset_fingerprint": (evidence.data or {}).get("fingerprint"),
        "base_source": model.get("source"),
        "base_revision": model.get("revision"),
        # What the source was pinned by, which may be a commit; and the bytes that came of it.
        "base_digest": model.get("digest"),
        "base_files_digest": (evidence.training or {}).get("base_digest"),
        "recipe_digest": lineage.get("recipe_digest"),
        "code_version": lineage.get("code_version"),
        "policy": policy.get("source"),
        "policy_digest": policy.get("digest"),
    }


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
