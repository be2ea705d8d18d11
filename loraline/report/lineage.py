"""Where a model comes from: what the page and the card say of it."""

from typing import Any

from loraline.report import formatting
from loraline.report.evidence_view import EvidenceView


def model_name(evidence: EvidenceView) -> str:
    """The name that the recipe registers the model under."""
    recipe = evidence.lineage.get("recipe") or {}
    return str((recipe.get("registry") or {}).get("model_name") or "tuned model")


def provenance(evidence: EvidenceView) -> list[tuple[str, str]]:
    """Sources, revisions and digests, by name; what is empty is left out."""
    lineage = evidence.lineage
    data, model, policy = (lineage.get(part) or {} for part in ("data", "model", "policy"))
    training, merge = evidence.training or {}, evidence.merge or {}
    versions = training.get("versions") or {}
    found = {
        "data": data.get("source"),
        "data revision": data.get("revision"),
        "data digest": data.get("digest"),
        "dataset fingerprint": (evidence.data or {}).get("fingerprint"),
        "base model": model.get("source"),
        "base revision": model.get("revision"),
        "base digest": model.get("digest"),
        "base files digest": training.get("base_digest"),
        "policy": policy.get("source"),
        "policy digest": policy.get("digest"),
        "recipe digest": lineage.get("recipe_digest"),
        "code version": lineage.get("code_version"),
        "adapter digest": merge.get("adapter_digest"),
        "merged digest": merge.get("merged_digest"),
        "compared with version": (evidence.champion or {}).get("version"),
        "trained on": _machine(training),
        "attention": training.get("attention"),
        "loss head": training.get("loss_head"),
        "versions": ", ".join(f"{name} {number}" for name, number in sorted(versions.items())),
    }
    return [(name, str(value)) for name, value in found.items() if value]


def _machine(training: dict[str, Any]) -> str:
    processes = training.get("processes") or 1
    named = " ".join(str(training[key]) for key in ("device", "dtype") if key in training)
    return f"{named}, {processes} processes" if named and processes > 1 else named


def effort(evidence: EvidenceView) -> list[tuple[str, str]]:
    """Time by step, as far as the steps say; and what training took of GPUs."""
    sides = {
        "base evaluation": evidence.base,
        "champion evaluation": evidence.champion,
        "training": evidence.training,
        "tuned evaluation": evidence.tuned,
        "merge": evidence.merge,
    }
    seconds = {name: side["seconds"] for name, side in sides.items() if side and side.get("seconds") is not None}
    if not seconds:
        return []
    found = [*seconds.items(), ("together", sum(seconds.values()))]
    training = evidence.training or {}
    if "training" in seconds and str(training.get("device", "")).startswith("cuda"):
        found.append(("GPU time of training", seconds["training"] * (training.get("processes") or 1)))
    return [(name, formatting.duration(value)) for name, value in found]


def run_tags(registration: dict[str, Any]) -> list[tuple[str, str]]:
    """The run that registered a model, and the images of its steps, as far as they are known."""
    names = {
        "mlflow_run": "MLflow run",
        "pipeline_run": "pipeline run",
        "gpu_image": "image",
        "light_image": "light image",
    }
    tags = registration.get("tags") or {}
    return [(name, str(tags[tag])) for tag, name in names.items() if tags.get(tag)]


def flat_recipe(recipe: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A recipe as dotted names and values, those that are empty left out."""
    found = []
    for key, value in recipe.items():
        if isinstance(value, dict):
            found += flat_recipe(value, f"{prefix}{key}.")
        elif value not in ("", None):
            found.append((f"{prefix}{key}", formatting.setting(value)))
    return found
