"""The "restricted" Pod Security Standard by its own fields, images, secrets and rights."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.rendering import (
    MANIFESTS,
    Resource,
    containers,
    everything,
    name,
    node_templates,
    of_kind,
    overlays,
    pod_templates,
    render,
    title,
)

# https://kubernetes.io/docs/concepts/security/pod-security-standards/ : what "restricted" allows.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
}


def violations(template: Resource) -> list[str]:
    """What the "restricted" standard has against a pod template; empty where it passes."""
    spec, found = template["spec"], []
    pod: dict[str, Any] = spec.get("securityContext") or {}
    found += [f"spec.{field}" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    if pod.get("runAsUser") == 0:
        found.append("runs as root")
    found += [f"sysctl {s['name']}" for s in pod.get("sysctls", []) if s["name"] not in SYSCTLS]
    for volume in spec.get("volumes", []):
        found += [f"volume {volume['name']}: {kind}" for kind in volume.keys() - {"name"} - VOLUMES]
    for container in containers(template):
        found += [f"{container['name']}: {what}" for what in _of_container(container, pod)]
    return found


def _of_container(container: Resource, pod: dict[str, Any]) -> list[str]:
    own: dict[str, Any] = container.get("securityContext") or {}
    both = pod | own
    capabilities = own.get("capabilities") or {}
    checks = {
        "privileged": own.get("privileged"),
        "runs as root": both.get("runAsUser") == 0,
        "runAsNonRoot is not true": both.get("runAsNonRoot") is not True,
        "allowPrivilegeEscalation is not false": own.get("allowPrivilegeEscalation") is not False,
        "does not drop ALL": "ALL" not in capabilities.get("drop", []),
        "adds capabilities": set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"},
        "no seccomp profile": (both.get("seccompProfile") or {}).get("type") not in {"RuntimeDefault", "Localhost"},
        "procMount": own.get("procMount", "Default") != "Default",
        "host ports": any(port.get("hostPort") for port in container.get("ports", [])),
        # Not of the standard, but of the house.
        "root file system is writable": own.get("readOnlyRootFilesystem") is not True,
    }
    return [what for what, wrong in checks.items() if wrong]


@pytest.mark.parametrize("folder", overlays(), ids=name)
def test_pods_pass_restricted(folder: Path) -> None:
    templates = [*pod_templates(render(folder)), *node_templates(render(folder))]
    assert not [(title(owner), v) for owner, template in templates if (v := violations(template))]


def test_the_standard_finds_what_is_wrong() -> None:
    bare = {
        "spec": {"containers": [{"name": "c", "ports": [{"hostPort": 80}]}], "volumes": [{"name": "v", "hostPath": {}}]}
    }
    found = " ".join(violations(bare))
    for what in ("runAsNonRoot", "Escalation", "ALL", "seccomp", "host ports", "hostPath", "writable"):
        assert what in found


def test_every_pod_is_looked_at() -> None:
    owners = {title(owner) for owner, _ in pod_templates(everything())}
    assert owners == {"StatefulSet loraline/mlflow", "StatefulSet loraline/postgres", "StatefulSet loraline/seaweedfs"}


def test_namespaces_enforce_pod_security() -> None:
    levels = {
        r["metadata"]["name"]: r["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for r in of_kind(everything(), "Namespace")
    }
    assert levels == {"loraline": "restricted", "kubeflow-user": "baseline"}  # why: base/steps/namespace.yaml


def test_images_are_pinned() -> None:
    for owner, template in pod_templates(everything()):
        for container in containers(template):
            image = container["image"]
            pinned = re.fullmatch(
                r"[a-z0-9.-]+\.[a-z]+(/[a-z0-9._-]+)+:v?\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", image
            )
            assert pinned, f"{title(owner)}: {image!r} has no registry or no version"
            assert container.get("imagePullPolicy", "IfNotPresent") == "IfNotPresent", (
                f"{title(owner)}: pulled each time"
            )


def test_nothing_is_latest() -> None:
    for file in MANIFESTS.rglob("*"):
        if file.is_file():
            assert not re.search(r":\s*latest\b", file.read_text()), f"{file} asks for latest"


def test_no_secret_is_inline() -> None:
    assert not of_kind(everything(), "Secret"), "secrets come by reference; README.md says how they are made"
    for owner, template in pod_templates(everything()):
        for container in containers(template):
            for entry in container.get("env", []):
                if re.search("PASSWORD|SECRET|TOKEN|ACCESS_KEY", entry["name"]):
                    is_file = entry["name"].endswith("_FILE")
                    assert is_file or "secretKeyRef" in entry.get("valueFrom", {}), f"{title(owner)}: {entry}"
            words = " ".join([*container.get("command", []), *container.get("args", [])])
            assert not re.search(r"password=|secret_key|://[^/ ]*:[^/ ]*@", words, re.IGNORECASE), title(owner)


def test_no_file_has_a_password_in_it() -> None:
    """Nor an address with one, nor KFP's well-known default of its object store."""
    wrong = re.compile(
        r"://[^/\s\"]+:[^/\s\"$]+@|minio123|(password|secret_?key)\s*[=:]\s*[\"']?[a-z0-9]", re.IGNORECASE
    )
    for file in MANIFESTS.rglob("*"):
        if file.is_file() and file.suffix in {".yaml", ".json", ".ini"}:
            lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith(("#", ";"))]
            found = [line for line in lines if wrong.search(line) and "MLFLOW_TRACKING_PASSWORD" not in line]
            assert not [line for line in found if "secretKeyRef" not in line], f"{file}: {found}"


def test_rights_are_named_one_by_one() -> None:
    roles = of_kind(everything(), "Role", "ClusterRole")
    assert roles
    assert not [title(role) for role in roles if role["kind"] == "ClusterRole"], (
        "Loraline needs no right on the cluster"
    )
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"], f"{title(role)}: {rule}"
            if "secrets" in rule["resources"]:
                assert rule.get("resourceNames"), f"{title(role)}: may read every secret"
                assert rule["verbs"] == ["get"], f"{title(role)}: list and watch ignore resourceNames"
            assert not {"pods/exec", "serviceaccounts/token", "roles", "rolebindings"} & set(rule["resources"])
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_ranks_are_reached_by_ranks_alone() -> None:
    """Gloo and NCCL ask for no password, so that who may connect is decided by this policy and by nothing else."""
    (policy,) = [
        one
        for one in of_kind(render(MANIFESTS / "overlays" / "multi-node"), "NetworkPolicy")
        if one["metadata"]["name"] == "ranks"
    ]
    ranks = {"matchExpressions": [{"key": "jobset.sigs.k8s.io/jobset-name", "operator": "Exists"}]}
    assert policy["spec"]["podSelector"] == ranks
    assert "Ingress" in policy["spec"]["policyTypes"]
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": ranks}]}], "no other namespace, no address"


def test_services_carry_no_token() -> None:
    """None of Loraline's services speaks to Kubernetes, nor does a node."""
    for owner, template in [*pod_templates(everything()), *node_templates(everything())]:
        assert template["spec"].get("automountServiceAccountToken") is False, title(owner)
        assert template["spec"].get("serviceAccountName"), title(owner)


def test_every_container_says_what_it_needs() -> None:
    for owner, template in pod_templates(everything()):
        for container in containers(template):
            resources = container.get("resources", {})
            assert {"cpu", "memory"} <= resources.get("requests", {}).keys(), title(owner)
            assert "memory" in resources.get("limits", {}), title(owner)
        for container in template["spec"]["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= container.keys(), title(owner)
