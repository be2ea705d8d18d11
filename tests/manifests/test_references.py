"""Names that lead somewhere: selectors, ports, secrets, accounts, queues."""

import re
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest

from loraline.training.multinode import trainjob
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
    selects,
    title,
)

# Pods that others make in the namespaces that our policies speak of: KFP's steps, a TrainJob's ranks, KFP's servers.
PODS_OF_OTHERS = [
    ("kubeflow-user", {"workflows.argoproj.io/workflow": "w"}),
    ("kubeflow-user", {"jobset.sigs.k8s.io/jobset-name": "j"}),
    ("kubeflow", {"app": "seaweedfs"}),
    ("kubeflow", {"app": "ml-pipeline"}),
]
NAMESPACES_OF_OTHERS = {"kube-system", "kubeflow", "minio", "monitoring"}
Key = tuple[str, str, str]  # namespace, secret, key


def namespace(resource: Resource) -> str:
    return str(resource["metadata"].get("namespace", ""))


def pods() -> Iterator[tuple[str, dict[str, str]]]:
    """Namespace and labels of every pod that there can be."""
    for owner, template in pod_templates(everything()):
        yield namespace(owner), template["metadata"]["labels"]
    yield from PODS_OF_OTHERS


def documented() -> set[Key]:
    """The README's table of secrets."""
    rows = re.findall(
        r"^\| ([a-z-]+) \| ([a-z0-9-]+) \| ([A-Za-z_, ]+) \|", (MANIFESTS / "README.md").read_text(), re.M
    )
    return {(where, secret, key) for where, secret, keys in rows for key in keys.split(", ") if where != "namespace"}


def secrets_used() -> set[Key]:
    """Every key of a secret that a pod, a monitor or a role reads; `*` where it takes all of them."""
    resources = everything()
    of_pods = {
        (namespace(owner), *ref) for owner, template in pod_templates(resources) for ref in _secrets_of_pod(template)
    }
    of_monitors = {
        (namespace(monitor), ref["name"], ref["key"])
        for monitor in of_kind(resources, "ServiceMonitor")
        for endpoint in monitor["spec"]["endpoints"]
        for ref in endpoint.get("basicAuth", {}).values()
    }
    of_roles = {
        (namespace(role), secret, "*")
        for role in of_kind(resources, "Role")
        for rule in role["rules"]
        if "secrets" in rule["resources"]
        for secret in rule["resourceNames"]
    }
    assert of_pods and of_monitors and of_roles, "the walk over the secrets misses some"  # noqa: PT018
    return of_pods | of_monitors | of_roles


def _secrets_of_pod(template: Resource) -> Iterator[tuple[str, str]]:
    for container in containers(template):
        for entry in container.get("env", []):
            if ref := entry.get("valueFrom", {}).get("secretKeyRef"):
                yield ref["name"], ref["key"]
        yield from ((s["secretRef"]["name"], "*") for s in container.get("envFrom", []) if "secretRef" in s)
    yield from ((v["secret"]["secretName"], "*") for v in template["spec"].get("volumes", []) if "secret" in v)


def test_every_secret_is_documented() -> None:
    table = documented()
    known = table | {(where, secret, "*") for where, secret, _ in table}
    assert not secrets_used() - known, "referenced, but not in the table of manifests/README.md"


def test_the_documented_secrets_are_those_that_are_read() -> None:
    """By steps under the names that the pipeline's parameters have as defaults; by the services as rendered."""
    steps = {(secret, key) for where, secret, key in documented() if where == "kubeflow-user"}
    assert {key for secret, key in steps if secret == "loraline-s3"} == {
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
    }
    assert {key for secret, key in steps if secret == "loraline-mlflow"} == {
        "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
    }
    assert ("loraline-hub", "HF_TOKEN") in steps
    used = {(where, secret) for where, secret, _ in secrets_used()}
    ours = {(where, secret) for where, secret, _ in documented() if where == "loraline"}
    assert ours <= used, "documented, but nothing reads it"


def test_every_secret_is_made_somewhere() -> None:
    """By kubectl, or by the guide's `secret <namespace> <name>`, which tests/test_docs.py carries out."""
    text = (MANIFESTS / "README.md").read_text() + (MANIFESTS.parent / "docs/operator.md").read_text()
    made = set(re.findall(r"(?:create secret generic|secret \S+) (loraline-[a-z0-9-]+|kfp-[a-z-]+)", text))
    told = {"loraline-mlflow-metrics", "mlpipeline-minio-artifact"}  # in words: made like another, and by KFP
    assert {secret for _, secret, _ in documented()} | {"loraline-registry"} == made | told


@pytest.mark.parametrize("folder", overlays(), ids=name)
def test_configmaps_and_accounts_exist(folder: Path) -> None:
    resources = render(folder)
    there = {(r["kind"], namespace(r), r["metadata"]["name"]) for r in resources}
    for owner, template in pod_templates(resources):
        where = namespace(owner)
        assert ("ServiceAccount", where, template["spec"]["serviceAccountName"]) in there, title(owner)
        for volume in template["spec"].get("volumes", []):
            if "configMap" in volume:
                assert ("ConfigMap", where, volume["configMap"]["name"]) in there, title(owner)
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", where, claim) in there, title(owner)


def test_mounts_have_volumes() -> None:
    for owner, template in pod_templates(everything()):
        claims = [claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])]
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])} | set(claims)
        mounts = {mount["name"] for container in containers(template) for mount in container.get("volumeMounts", [])}
        assert mounts == volumes, title(owner)


def test_bindings_bind_what_there_is() -> None:
    there = {(r["kind"], namespace(r), r["metadata"]["name"]) for r in everything()}
    of_kubeflow = {("ServiceAccount", "kubeflow", "ml-pipeline")}
    for binding in of_kind(everything(), "RoleBinding"):
        assert (binding["roleRef"]["kind"], namespace(binding), binding["roleRef"]["name"]) in there, title(binding)
        for subject in binding["subjects"]:
            assert (subject["kind"], subject["namespace"], subject["name"]) in there | of_kubeflow, title(binding)


@pytest.mark.parametrize("folder", overlays(), ids=name)
def test_selectors_match_their_own_pods(folder: Path) -> None:
    for owner, template in pod_templates(render(folder)):
        labels = template["metadata"]["labels"]
        assert selects(owner["spec"]["selector"], labels), title(owner)
        for constraint in template["spec"].get("topologySpreadConstraints", []):
            assert selects(constraint["labelSelector"], labels), title(owner)
    for owner in of_kind(render(folder), "StatefulSet"):
        services = [r["metadata"]["name"] for r in of_kind(render(folder), "Service")]
        assert owner["spec"]["serviceName"] in services, title(owner)


@pytest.mark.parametrize("folder", overlays(), ids=name)
def test_services_and_budgets_hit_one_set_of_pods(folder: Path) -> None:
    resources = render(folder)
    templates = list(pod_templates(resources))
    for resource in of_kind(resources, "Service", "PodDisruptionBudget"):
        selector = resource["spec"]["selector"]
        selector = {"matchLabels": selector} if resource["kind"] == "Service" else selector
        hit = [
            (owner, template)
            for owner, template in templates
            if namespace(owner) == namespace(resource) and selects(selector, template["metadata"]["labels"])
        ]
        assert len(hit) == 1, f"{title(resource)} selects {[title(owner) for owner, _ in hit]}"
        ports = [port for container in containers(hit[0][1]) for port in container.get("ports", [])]
        open_ports = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
        for port in resource["spec"].get("ports", []):
            assert port.get("targetPort", port["port"]) in open_ports, f"{title(resource)}: nobody listens on {port}"


def test_probes_use_ports_that_are_open() -> None:
    for owner, template in pod_templates(everything()):
        for container in containers(template):
            names = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if get := container.get(probe, {}).get("httpGet"):
                    assert get["port"] in names, f"{title(owner)}: {probe}"


def test_budgets_let_a_node_be_drained() -> None:
    replicas = {
        r["metadata"]["name"]: r["spec"]["replicas"] for r in of_kind(everything(), "Deployment", "StatefulSet")
    }
    budgets = {r["metadata"]["name"]: r["spec"] for r in of_kind(everything(), "PodDisruptionBudget")}
    assert budgets.keys() == replicas.keys()
    for which, budget in budgets.items():
        assert budget.get("maxUnavailable", replicas[which] - budget.get("minAvailable", 0)) >= 1, which


def test_policies_select_something() -> None:
    there = list(pods())
    for policy in of_kind(everything(), "NetworkPolicy"):
        own = [labels for where, labels in there if where == namespace(policy)]
        assert any(selects(policy["spec"]["podSelector"], labels) for labels in own), f"{title(policy)} selects no pod"
        for direction, key in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, []):
                assert rule.get(key), f"{title(policy)}: {direction} from or to everywhere"
                for peer in rule[key]:
                    assert _exists(peer, namespace(policy), there), f"{title(policy)}: nobody is {peer}"


def _exists(peer: Resource, own: str, there: list[tuple[str, dict[str, str]]]) -> bool:
    if "ipBlock" in peer:
        return True
    labels = {r["metadata"]["name"]: r["metadata"]["labels"] for r in of_kind(everything(), "Namespace")}
    labels |= {other: {} for other in NAMESPACES_OF_OTHERS}
    chosen = (
        {
            where
            for where, of_it in labels.items()
            if selects(peer["namespaceSelector"], of_it | {"kubernetes.io/metadata.name": where})
        }
        if "namespaceSelector" in peer
        else {own}
    )
    if "podSelector" not in peer:
        return bool(chosen)
    return any(where in chosen and selects(peer["podSelector"], labels) for where, labels in there)


def test_policies_open_ports_that_are_listened_on() -> None:
    """A door into one of our pods leads to a port of it."""
    templates = list(pod_templates(everything()))
    for policy in of_kind(everything(), "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for owner, template in templates:
                mine = namespace(owner) == namespace(policy)
                if mine and selects(policy["spec"]["podSelector"], template["metadata"]["labels"]):
                    listening = {p["containerPort"] for c in containers(template) for p in c.get("ports", [])}
                    assert {p["port"] for p in rule["ports"]} <= listening, title(policy)


@pytest.mark.parametrize("where", ["loraline", "kubeflow-user"])
def test_nothing_passes_by_default_but_dns(where: str) -> None:
    policies = {
        r["metadata"]["name"]: r["spec"] for r in of_kind(everything(), "NetworkPolicy") if namespace(r) == where
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies["dns"]["podSelector"] == {}
    assert {(p["protocol"], p["port"]) for p in policies["dns"]["egress"][0]["ports"]} == {("UDP", 53), ("TCP", 53)}


STORES = ["seaweedfs", "kfp-seaweedfs", "minio", "aws-s3"]


@pytest.mark.parametrize("store", STORES)
def test_mlflow_and_steps_reach_the_store(store: str) -> None:
    port = {"seaweedfs": 8333, "kfp-seaweedfs": 8333, "minio": 9000, "aws-s3": 443}[store]
    resources = render(MANIFESTS / "overlays" / store)
    for where, labels in (("loraline", {"app.kubernetes.io/name": "mlflow"}), PODS_OF_OTHERS[0]):
        doors = {
            p["port"]
            for policy in of_kind(resources, "NetworkPolicy")
            if namespace(policy) == where and selects(policy["spec"]["podSelector"], labels)
            for rule in policy["spec"].get("egress", [])
            for p in rule["ports"]
        }
        assert port in doors, f"{where} does not reach {store}"


def test_queues_lead_to_flavors() -> None:
    flavors = {r["metadata"]["name"] for r in of_kind(everything(), "ResourceFlavor")}
    queues = {r["metadata"]["name"]: r["spec"] for r in of_kind(everything(), "ClusterQueue")}
    for local in of_kind(everything(), "LocalQueue"):
        assert local["spec"]["clusterQueue"] in queues
    for queue in queues.values():
        assert {f["name"] for group in queue["resourceGroups"] for f in group["flavors"]} == flavors


def test_nodes_run_as_the_step_expects() -> None:
    """The TrainJob names the runtime, its job and its container; and the exit status that is not tried again."""
    ((runtime, template),) = node_templates(render(MANIFESTS / "overlays/multi-node"))
    assert (runtime["kind"], runtime["metadata"]["name"]) == ("TrainingRuntime", trainjob.TRAINING_RUNTIME)
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert (job["name"], job["replicas"]) == (trainjob.NODE_CONTAINER, 1)
    assert job["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"
    assert [container["name"] for container in containers(template)] == [trainjob.NODE_CONTAINER]
    assert {"command", "args"}.isdisjoint(containers(template)[0]), "the image's entry point passes signals on"
    (rule,) = job["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [trainjob.EXIT_NOT_RETRYABLE]
    as_job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "n"}, "spec": job["template"]["spec"]}
    kubernetes_validate.validate(as_job, "1.37", strict=True)
    accounts = {r["metadata"]["name"] for r in of_kind(render(MANIFESTS / "overlays/multi-node"), "ServiceAccount")}
    assert template["spec"]["serviceAccountName"] in accounts
    mounts = {mount["name"] for mount in containers(template)[0]["volumeMounts"]}
    assert mounts == {volume["name"] for volume in template["spec"]["volumes"]}


def test_monitors_find_services() -> None:
    services = of_kind(everything(), "Service")
    for monitor in of_kind(everything(), "ServiceMonitor"):
        found = [s for s in services if selects(monitor["spec"]["selector"], s["metadata"].get("labels", {}))]
        ports = {port["name"] for service in found for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports, title(monitor)
