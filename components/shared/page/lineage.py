"""Where a model comes from: what the page and the card say of it."""

from typing import Any

from components.shared.evidence import Evidence
from components.shared.page import words


def model_name(evidence: Evidence) -> str:
    """The name that the recipe registers the model under."""
    recipe = evidence.lineage.get("recipe") or {}
    return str((recipe.get("registry") or {}).get("model_name") or "tuned model")


def provenance(evidence: Evidence) -> list[tuple[str, str]]:
    """Sources, revisions and digests, by name; what is empty is left out."""
    lineage = evidence.lineage
    data, model, training = lineage.get("data") or {}, lineage.get("model") or {}, evidence.training or {}
    versions = training.get("versions") or {}
    found = {
        "data": data.get("source"),
        "data revision": data.get("revision"),
        "data digest": data.get("digest"),
        "dataset fingerprint": (evidence.data or {}).get("fingerprint"),
        "base model": model.get("source"),
        "base revision": model.get("revision"),
        "base digest": model.get("digest"),
        "recipe digest": lineage.get("recipe_digest"),
        "code version": lineage.get("code_version"),
        "trained on": " ".join(str(training[key]) for key in ("device", "dtype") if key in training),
        "attention": training.get("attention"),
        "loss head": training.get("loss_head"),
        "versions": ", ".join(f"{name} {number}" for name, number in sorted(versions.items())),
    }
    return [(name, str(value)) for name, value in found.items() if value]


def effort(evidence: Evidence) -> list[tuple[str, str]]:
    """Seconds by step, as far as the steps say."""
    sides = {
        "base evaluation": evidence.base,
        "training": evidence.training,
        "tuned evaluation": evidence.tuned,
        "merge": evidence.merge,
    }
    seconds = {name: side["seconds"] for name, side in sides.items() if side and side.get("seconds") is not None}
    if not seconds:
        return []
    total = ("together", words.duration(sum(seconds.values())))
    return [*((name, words.duration(value)) for name, value in seconds.items()), total]


def flat_recipe(recipe: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A recipe as dotted names and values, those that are empty left out."""
    found = []
    for key, value in recipe.items():
        if isinstance(value, dict):
            found += flat_recipe(value, f"{prefix}{key}.")
        elif value not in ("", None):
            found.append((f"{prefix}{key}", words.setting(value)))
    return found
