"""Where a model comes from: sources, revisions, digests, hardware and time."""

from collections.abc import Mapping
from typing import Any

from loraline.artifacts.registration import Registration
from loraline.artifacts.training import TrainReport
from loraline.evidence.schema import Evidence
from loraline.report.formatting import duration, setting

_RUN_TAGS = {
    "mlflow_run": "MLflow run",
    "pipeline_run": "pipeline run",
    "gpu_image": "image",
    "light_image": "light image",
}


def provenance(evidence: Evidence) -> list[tuple[str, str]]:
    """Sources, revisions and digests, by name; what is empty is left out."""
    named = [*_sources(evidence), *_digests(evidence), *_environment(evidence.training)]
    return [(name, value) for name, value in named if value]


def _sources(evidence: Evidence) -> list[tuple[str, str]]:
    data, model, policy = evidence.lineage.data, evidence.lineage.model, evidence.lineage.policy
    champion = evidence.champion.champion if evidence.champion else None
    return [
        ("data", data.source),
        ("data revision", data.revision),
        ("data digest", data.digest),
        ("dataset fingerprint", evidence.data.fingerprint if evidence.data else ""),
        ("base model", model.source),
        ("base revision", model.revision),
        ("base digest", model.digest),
        ("base files digest", evidence.training.base_digest if evidence.training else ""),
        ("policy", policy.source if policy else ""),
        ("policy digest", policy.digest if policy else ""),
        ("compared with version", champion.version if champion else ""),
    ]


def _digests(evidence: Evidence) -> list[tuple[str, str]]:
    merge = evidence.merge
    return [
        ("recipe digest", evidence.lineage.recipe_digest),
        ("code version", evidence.lineage.code_version),
        ("adapter digest", merge.adapter_digest if merge else ""),
        ("merged digest", merge.merged_digest if merge else ""),
    ]


def _environment(training: TrainReport | None) -> list[tuple[str, str]]:
    if training is None:
        return []
    processes = f", {training.processes} processes" if training.processes > 1 else ""
    return [
        ("trained on", f"{training.device} {training.dtype}{processes}"),
        ("attention", training.attention),
        ("loss head", training.loss_head),
        ("libraries", ", ".join(f"{name} {number}" for name, number in sorted(training.identity.libraries.items()))),
    ]


def effort(evidence: Evidence) -> list[tuple[str, str]]:
    """Time by step, their sum, and the GPU time of training."""
    reports = {
        "base evaluation": evidence.base,
        "champion evaluation": evidence.evaluation("champion"),
        "training": evidence.training,
        "tuned evaluation": evidence.tuned,
        "merge": evidence.merge,
    }
    seconds = {name: report.seconds for name, report in reports.items() if report}
    if not seconds:
        return []
    times = [*seconds.items(), ("total", sum(seconds.values()))]
    training = evidence.training
    if training and training.device.startswith("cuda"):
        times.append(("GPU time of training", training.seconds * training.processes))
    return [(name, duration(time)) for name, time in times]


def run_tags(registration: Registration | None) -> list[tuple[str, str]]:
    """The run that registered a model, and the images of its steps, as far as they are known."""
    tags = registration.tags if registration else {}
    return [(name, tags[tag]) for tag, name in _RUN_TAGS.items() if tags.get(tag)]


def flat_recipe(recipe: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A recipe as dotted names and values, without those that are empty."""
    found = []
    for key, value in recipe.items():
        if isinstance(value, dict):
            found += flat_recipe(value, f"{prefix}{key}.")
        elif value not in ("", None):
            found.append((f"{prefix}{key}", setting(value)))
    return found
