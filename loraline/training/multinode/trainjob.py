"""The manifest of the TrainJob for Kubeflow Trainer, whose nodes train as the step's own pod would.

A node's pod gets what the step's pod has (image, resources, node selector, tolerations, secrets, queue), which the
pipeline's placement decides. All else, and when a pod is restarted, is in the TrainingRuntime of
manifests/overlays/multi-node.
"""

import os
import re
from typing import Any

from pydantic import BaseModel, ConfigDict

from loraline.training.config import TrainConfig

TRAINER_GROUP, TRAINER_VERSION, TRAINER_PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
TRAINING_RUNTIME = "loraline"
RUN_LABEL = "loraline/run"
NODE_CONTAINER = "node"  # Trainer's name of the replicated job whose pods train, and of their container

EXIT_NOT_RETRYABLE = 65
"""Exit status of a node for an error that a retry cannot fix; the TrainingRuntime fails the job on it."""

KubernetesObject = dict[str, Any]
"""An object as JSON has it."""

_QUEUE_LABELS = ("kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class")
_PLACEMENT_FIELDS = ("nodeSelector", "tolerations", "affinity", "imagePullSecrets")
# Set in the step's environment by KFP's launcher or its MLflow plugin. Secrets stay references.
_INHERITED_VARIABLES = re.compile(r"LORALINE_RUN_ID|MLFLOW_(?!.*(PASSWORD|TOKEN|SECRET|KEY)).+")


class NodeJob(BaseModel):
    """Arguments of a node. Folders are URLs in the object store: nodes share no volume."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    config: TrainConfig
    model: str
    dataset: str
    result: str
    """URL to which the first node uploads the adapter."""
    checkpoints: str


def trainjob_manifest(name: str, pod: KubernetesObject, job: NodeJob) -> KubernetesObject:
    """Make the manifest of the TrainJob.

    Args:
        name: name of the TrainJob, a DNS label.
        pod: the step's own pod, as the Kubernetes API returns it.
        job: arguments of the nodes.
    """
    container = next(one for one in pod["spec"]["containers"] if one["name"] == "main")
    labels = pod["metadata"].get("labels", {})
    return {
        "apiVersion": f"{TRAINER_GROUP}/{TRAINER_VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "namespace": pod["metadata"]["namespace"],
            "labels": {
                "app.kubernetes.io/part-of": "loraline",
                RUN_LABEL: run_label(),
                **{key: labels[key] for key in _QUEUE_LABELS if key in labels},
            },
            "ownerReferences": [_owner(pod)],
        },
        "spec": {
            "runtimeRef": {"apiGroup": TRAINER_GROUP, "kind": "TrainingRuntime", "name": TRAINING_RUNTIME},
            "trainer": {
                "image": container["image"],
                # No command: the image's entry point forwards signals.
                "args": ["python", "-m", "loraline.training.multinode.trainjob_node", job.model_dump_json()],
                "env": _environment(container),
                "numNodes": job.config.nodes,
                "numProcPerNode": job.config.processes_per_node(_gpus(container)),
                "resourcesPerNode": {k: v for k, v in container["resources"].items() if k in ("limits", "requests")},
            },
            "runtimePatches": [_placement_patch(pod)],
        },
    }


def run_label() -> str:
    """The id of the pipeline's run, as the value of a label."""
    return re.sub(r"[^\w.-]", "-", os.environ.get("LORALINE_RUN_ID", ""))[:63].strip("-_.")


def _owner(pod: KubernetesObject) -> KubernetesObject:
    """The workflow that owns the step's pod, so that the job is removed with the run and not with a retried pod."""
    owners = pod["metadata"].get("ownerReferences")
    if owners:
        return {key: owners[0][key] for key in ("apiVersion", "kind", "name", "uid")}
    return {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}


def _environment(container: KubernetesObject) -> list[KubernetesObject]:
    secrets = [entry for entry in container.get("env", []) if "secretKeyRef" in entry.get("valueFrom", {})]
    names = {entry["name"] for entry in secrets}
    plain = {name: value for name, value in sorted(os.environ.items()) if _INHERITED_VARIABLES.fullmatch(name)}
    return secrets + [{"name": name, "value": value} for name, value in plain.items() if name not in names]


def _gpus(container: KubernetesObject) -> int:
    """Number of GPUs: of all resources only theirs have names with a domain, such as nvidia.com/gpu."""
    limits = container["resources"].get("limits", {})
    return sum(int(count) for resource, count in limits.items() if "/" in resource)


def _placement_patch(pod: KubernetesObject) -> KubernetesObject:
    placement = {key: pod["spec"][key] for key in _PLACEMENT_FIELDS if pod["spec"].get(key)}
    labels = {"app.kubernetes.io/part-of": "loraline"}
    job = {"spec": {"template": {"metadata": {"labels": labels}, "spec": placement}}}
    return {
        "manager": "loraline/train-lora",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [{"name": NODE_CONTAINER, "template": job}]}}},
    }
