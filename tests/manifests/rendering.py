"""Render kustomize folders, and find one's way in what came out."""

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parents[2] / "manifests"
Resource = dict[str, Any]

MISSING_RENDERER = (
    "neither `kubectl` (1.27 or later) nor `kustomize` (5 or later) is on the PATH, and the manifests cannot be "
    "checked without one. Install kubectl as https://kubernetes.io/docs/tasks/tools/ says, or kustomize as "
    "https://kubectl.docs.kubernetes.io/installation/kustomize/ says; either is one file."
)


def overlays() -> list[Path]:
    """Every folder below manifests/ that renders by itself, at whatever depth: all kustomizations but components."""
    found = [file.parent for file in MANIFESTS.rglob("kustomization.yaml") if _kind(file) == "Kustomization"]
    return sorted(found)


def components() -> list[Path]:
    """Every kustomize component below manifests/, which renders only within another kustomization."""
    return sorted(file.parent for file in MANIFESTS.rglob("kustomization.yaml") if _kind(file) == "Component")


def _kind(kustomization: Path) -> str:
    return str(yaml.safe_load(kustomization.read_text()).get("kind"))


def name(folder: Path) -> str:
    """A folder's name in a test's report."""
    return folder.relative_to(MANIFESTS).as_posix()


def renderer() -> list[str]:
    """The command that renders a folder. Raises RuntimeError where this machine has none."""
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    raise RuntimeError(MISSING_RENDERER)


@functools.cache
def render(folder: Path) -> list[Resource]:
    """Render a folder. Raises RuntimeError with the renderer's own words where it cannot be rendered."""
    done = subprocess.run([*renderer(), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{folder} does not render: {done.stderr}")
    return [resource for resource in yaml.safe_load_all(done.stdout) if resource]


def everything() -> list[Resource]:
    """What all overlays together make: the union, since some come on top of others."""
    return [resource for folder in overlays() for resource in render(folder)]


def of_kind(resources: list[Resource], *kinds: str) -> list[Resource]:
    """The resources of the kinds given."""
    return [resource for resource in resources if resource["kind"] in kinds]


def title(resource: Resource) -> str:
    """A resource's name in a message."""
    meta = resource["metadata"]
    return f"{resource['kind']} {meta.get('namespace', '-')}/{meta['name']}"


def pod_templates(resources: list[Resource]) -> Iterator[tuple[Resource, Resource]]:
    """Every resource that makes pods, with its pod template, whatever its kind."""
    for resource in resources:
        spec = resource.get("spec") or {}
        if resource["kind"] == "Pod":
            yield resource, {"metadata": resource["metadata"], "spec": spec}
        elif resource["kind"] == "CronJob":
            yield resource, spec["jobTemplate"]["spec"]["template"]
        elif resource["kind"] == "TrainingRuntime":
            continue  # see node_templates: others fill in what is missing
        elif isinstance(spec.get("template"), dict) and "spec" in spec["template"]:
            yield resource, spec["template"]


def node_templates(resources: list[Resource]) -> Iterator[tuple[Resource, Resource]]:
    """Every TrainingRuntime, with the pod template of its nodes; image and resources come from a TrainJob."""
    for resource in of_kind(resources, "TrainingRuntime"):
        for job in resource["spec"]["template"]["spec"]["replicatedJobs"]:
            yield resource, job["template"]["spec"]["template"]


def containers(template: Resource) -> list[Resource]:
    """All containers of a pod template, those that run first and those for debugging included."""
    spec = template["spec"]
    return [c for field in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(field, [])]


def selects(selector: Resource, labels: dict[str, str]) -> bool:
    """Whether a label selector selects what carries `labels`."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions") or []:
        here, values = labels.get(rule["key"]), rule.get("values", [])
        holds = {
            "Exists": rule["key"] in labels,
            "DoesNotExist": rule["key"] not in labels,
            "In": here in values,
            "NotIn": here not in values,
        }[rule["operator"]]
        if not holds:
            return False
    return True
