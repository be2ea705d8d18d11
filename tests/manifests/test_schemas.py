"""Every overlay renders, and what comes out is what Kubernetes and the operators would take."""

import functools
import json
from pathlib import Path

import kubernetes_validate
import pytest
from pydantic import ValidationError

from tests.manifests.custom_resources import KNOWN
from tests.manifests.rendering import MANIFESTS, Resource, name, overlays, render, title

# The oldest that is still supported upstream, and the newest whose schemas are at hand.
VERSIONS = ["1.33", "1.37"]
CORE_GROUPS = (".k8s.io", "apps", "batch", "policy", "autoscaling")


def is_core(resource: Resource) -> bool:
    """Whether Kubernetes itself defines a resource. Kueue's group ends in .k8s.io too, but is Kueue's."""
    group = resource["apiVersion"].rpartition("/")[0]
    return not group or (group.endswith(CORE_GROUPS) and not group.endswith(".x-k8s.io"))


@functools.cache  # the base is in many overlays, and the schemas are read anew for each resource
def problem(resource: str, version: str) -> str:
    """What a Kubernetes version has against a resource, given as JSON; empty where it takes it."""
    try:
        kubernetes_validate.validate(json.loads(resource), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{list(error.path)}: {error.message}"
    return ""


def test_nothing_is_missed() -> None:
    found = {name(folder) for folder in overlays()}
    assert {"base", "overlays/seaweedfs", "overlays/minio", "overlays/aws-s3", "overlays/complete"} <= found
    for folder in (MANIFESTS / "overlays").iterdir():
        assert (folder / "kustomization.yaml").is_file(), f"{name(folder)} has no kustomization.yaml: nobody checks it"


def test_every_file_is_used() -> None:
    """A manifest that no kustomization names is never applied, and looks as if it were."""
    for file in MANIFESTS.rglob("*"):
        if file.is_file() and file.name not in {"kustomization.yaml", "README.md"}:
            assert file.name in (file.parent / "kustomization.yaml").read_text(), f"{file} is named by no kustomization"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", overlays(), ids=name)
def test_kubernetes_takes_it(folder: Path, version: str) -> None:
    problems = {title(r): problem(json.dumps(r), version) for r in render(folder) if is_core(r)}
    assert not {which: what for which, what in problems.items() if what}


@pytest.mark.parametrize("folder", overlays(), ids=name)
def test_the_operators_take_it(folder: Path) -> None:
    for resource in render(folder):
        if not is_core(resource):
            assert resource["kind"] in KNOWN, f"{title(resource)}: no model of it in custom_resources.py"
            KNOWN[resource["kind"]].model_validate(resource)


@pytest.mark.parametrize("folder", overlays(), ids=name)
def test_no_resource_twice(folder: Path) -> None:
    keys = [(r["apiVersion"], title(r)) for r in render(folder)]
    assert len(keys) == len(set(keys))


def test_the_models_refuse_what_is_wrong() -> None:
    """The checks above are worth something only if they fail where they should."""
    queue = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue", "metadata": {"name": "a", "namespace": "b"}}
    KNOWN["LocalQueue"].model_validate(queue | {"spec": {"clusterQueue": "c"}})
    for spec in ({"clusterqueue": "c"}, {"clusterQueue": "c", "cohort": "d"}, {}):
        with pytest.raises(ValidationError):
            KNOWN["LocalQueue"].model_validate(queue | {"spec": spec})


def test_kubernetes_refuses_what_is_wrong() -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {"ports": [{"port": 1, "prot": 1}]},
    }
    assert "prot" in problem(json.dumps(service), VERSIONS[-1])
