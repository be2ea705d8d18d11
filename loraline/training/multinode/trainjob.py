"""The TrainJob: what Kubeflow Trainer is asked for, so that nodes train as the step's own pod would.

A node is given what the step's pod was given (image, resources, nodes to run on, secrets, queue): one place decides,
and that is the pipeline's placement. How a node's pod is built otherwise, and when it is tried again, stands in the
TrainingRuntime of manifests/overlays/multi-node.
"""

import os
import re
from typing import Any

from pydantic import BaseModel, ConfigDict

from loraline.training.config import TrainConfig

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
RUNTIME = "loraline"
RUN_LABEL = "loraline/run"
NODE = "node"  # Trainer's name for the pods that train, and for their container

WILL_FAIL_AGAIN = 65
"""A node's exit status for an error that another try cannot mend; the TrainingRuntime ends the job on it."""

Manifest = dict[str, Any]
_QUEUE = ("kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class")
_PLACEMENT = ("nodeSelector", "tolerations", "affinity", "imagePullSecrets")
# What KFP's launcher or its MLflow plugin put into the step's environment. Whatever is secret stays a reference.
_PASSED_ON = re.compile(r"LORALINE_RUN_ID|MLFLOW_(?!.*(PASSWORD|TOKEN|SECRET|KEY)).+")


class NodeJob(BaseModel):
    """What a node is told. Folders are addresses in the object store: nodes share no volume."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    config: TrainConfig
    model: str
    dataset: str
    result: str
    """Where the first node puts the adapter."""
    checkpoints: str
    code: str


def manifest(name: str, pod: Manifest, job: NodeJob) -> Manifest:
    """Write the TrainJob.

    Args:
        name: of the TrainJob, a DNS label.
        pod: the step's own pod, as the Kubernetes API shows it.
        job: what each node is told.
    """
    container = next(one for one in pod["spec"]["containers"] if one["name"] == "main")
    labels = pod["metadata"].get("labels", {})
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "namespace": pod["metadata"]["namespace"],
            "labels": {
                "app.kubernetes.io/part-of": "loraline",
                RUN_LABEL: run_label(),
                **{key: labels[key] for key in _QUEUE if key in labels},
            },
            "ownerReferences": [_owner(pod)],
        },
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": RUNTIME},
            "trainer": {
                "image": container["image"],
                # No command: the image's own entry point passes signals on.
                "args": ["python", "-m", "loraline.training.multinode.trainjob_node", job.model_dump_json()],
                "env": _environment(container),
                "numNodes": job.config.nodes,
                "numProcPerNode": max(1, _gpus(container)),
                "resourcesPerNode": {k: v for k, v in container["resources"].items() if k in ("limits", "requests")},
            },
            "runtimePatches": [_placed_like(pod)],
        },
    }


def run_label() -> str:
    """Whose run this is, as a label's value."""
    return re.sub(r"[^\w.-]", "-", os.environ.get("LORALINE_RUN_ID", ""))[:63].strip("-_.")


def _owner(pod: Manifest) -> Manifest:
    """The workflow that owns the step's pod, so that the job goes with the run and not with one try of the step."""
    owners = pod["metadata"].get("ownerReferences")
    if owners:
        return {key: owners[0][key] for key in ("apiVersion", "kind", "name", "uid")}
    return {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}


def _environment(container: Manifest) -> list[Manifest]:
    secret = [entry for entry in container.get("env", []) if "secretKeyRef" in entry.get("valueFrom", {})]
    names = {entry["name"] for entry in secret}
    plain = {name: value for name, value in sorted(os.environ.items()) if _PASSED_ON.fullmatch(name)}
    return secret + [{"name": name, "value": value} for name, value in plain.items() if name not in names]


def _gpus(container: Manifest) -> int:
    """A GPU is the one kind of resource whose name has a domain, such as nvidia.com/gpu."""
    limits = container["resources"].get("limits", {})
    return sum(int(count) for resource, count in limits.items() if "/" in resource)


def _placed_like(pod: Manifest) -> Manifest:
    placement = {key: pod["spec"][key] for key in _PLACEMENT if pod["spec"].get(key)}
    labels = {"app.kubernetes.io/part-of": "loraline"}
    job = {"spec": {"template": {"metadata": {"labels": labels}, "spec": placement}}}
    return {
        "manager": "loraline/train-lora",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [{"name": NODE, "template": job}]}}},
    }
