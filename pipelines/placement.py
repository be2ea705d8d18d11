"""Where steps run on a cluster, and with what: nodes, GPUs, memory, secrets, retries and timeouts, in one place.

What KFP can resolve at run time is a parameter of the pipelines (PlacementConfig). What it cannot is fixed
when they are compiled: retries, timeouts and mounts in `_STEPS`; the names that differ from cluster to
cluster in the environment of `loraline compile`:

- LORALINE_QUEUE: Kueue's queue for the GPU steps (KFP takes no parameter in a pod's labels);
- LORALINE_MODEL_CACHE: a claim that keeps models between runs (KFP refuses an empty name at run time, so
  that a parameter could not be left out). It must be writable for the images' user, 10001.

KFP has no field at all for a request of ephemeral storage, nor for a volume's group.

Accelerator, memory and cores are in the cache key of the steps that they are given to, because KFP hands them
over as inputs: another memory size runs a step again. Nodes, secrets and the run's id are not. The local
runner ignores all of this.
"""

import os
from dataclasses import dataclass
from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask
from kfp.dsl.pipeline_channel import PipelineChannel
from kfp.dsl.pipeline_context import Pipeline
from pydantic import Field

from components import images
from loraline.config import StepConfig

QUEUE = os.environ.get("LORALINE_QUEUE", "")
MODEL_CACHE = os.environ.get("LORALINE_MODEL_CACHE", "")

INTERACTIVE = "loraline-interactive"
"""Priority in the queue of a run that a person waits for."""
SCHEDULED = "loraline-scheduled"
"""Priority of a run that nobody waits for: it is preempted, and goes on from its checkpoint."""

RUN_ID_LABEL = "pipeline/runid"
"""The label that KFP gives to every pod of a run."""

# Tries after the first. KFP can only retry any failure or none: an error of the recipe's that shows in a step
# with a model (training that diverges) fails that often before the run does, each time from its checkpoint.
_RETRIES = 3
_HOURS_OF_LIGHT = 6
_HOURS_OF_GPU = 72


class PlacementConfig(StepConfig):
    """Where steps run. GPU steps are those that hold a model; the others are light."""

    accelerator_type: str = "nvidia.com/gpu"
    """Name of the GPU resource that a GPU step asks for."""
    accelerator_count: str = "1"
    """GPUs of a GPU step; 0 where there are none. Training alone uses more than 1. Text, as KFP drops a number here."""
    gpu_memory: str = "32Gi"
    """Memory of a GPU step (request and limit)."""
    gpu_cpu: str = "4"
    """Cores that a GPU step requests; it may use more."""
    gpu_node_selector: dict[str, str] = Field(default={})
    """Labels of the nodes for GPU steps, such as {"nvidia.com/gpu.product": "NVIDIA-H200"}."""
    gpu_tolerations: list[dict[str, Any]] = Field(
        default=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    )
    """Taints that GPU steps tolerate, as in a pod's `tolerations`."""
    gpu_affinity: dict[str, Any] = Field(default={})
    """What else is asked of the nodes for GPU steps, as in a pod's `affinity.nodeAffinity`."""
    light_memory: str = "4Gi"
    """Memory of a light step (request and limit)."""
    light_cpu: str = "1"
    """Cores that a light step requests; it may use more."""
    light_node_selector: dict[str, str] = Field(default={})
    """Labels of the nodes for light steps."""
    s3_secret: str = "loraline-s3"
    """Secret with AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where wanted, AWS_REGION."""
    mlflow_secret: str = "loraline-mlflow"
    """Secret with MLFLOW_TRACKING_URI and, where wanted, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""
    hub_secret: str = "loraline-hub"
    """Secret with HF_TOKEN, for gated models. It need not exist."""
    image_pull_secret: str = "loraline-registry"
    """Secret with the login to the images' registry. It need not exist where the nodes can pull without."""


@dataclass(frozen=True)
class _Secret:
    """The keys of a secret, each the name of the environment variable that it becomes."""

    parameter: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


_S3 = _Secret("s3_secret", ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_REGION",))
_MLFLOW = _Secret("mlflow_secret", ("MLFLOW_TRACKING_URI",), ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"))
_HUB = _Secret("hub_secret", optional=("HF_TOKEN",))


@dataclass(frozen=True)
class _Needs:
    """What a step needs of the cluster."""

    secrets: tuple[_Secret, ...] = ()
    gpu: bool = False
    is_retried: bool = False
    """For steps that fail by eviction or by a store that is away rather than by what a person wrote: a recipe that
    is refused, or rows that are not valid, are so at every try."""
    fetches_models: bool = False
    registers: bool = False
    """For the step that writes onto a model version which images it was made in."""
    trains: bool = False
    """For the step that may use several GPUs, and have a TrainJob made after its own pod."""


_STEPS = {
    "resolve-recipe": _Needs((_S3, _MLFLOW, _HUB)),
    "check-freshness": _Needs((_MLFLOW,)),
    "prepare-dataset": _Needs((_S3, _MLFLOW, _HUB)),
    "load-model": _Needs((_S3, _MLFLOW, _HUB), gpu=True, is_retried=True, fetches_models=True),
    "train-lora": _Needs((_S3, _MLFLOW), gpu=True, is_retried=True, trains=True),
    "evaluate-model": _Needs((_S3, _MLFLOW), gpu=True, is_retried=True),
    "merge-adapter": _Needs(gpu=True, is_retried=True),
    "gate": _Needs(),
    "register-model": _Needs((_S3, _MLFLOW), is_retried=True, registers=True),
    "report": _Needs((_MLFLOW,), is_retried=True),
    "promote-model": _Needs((_S3, _MLFLOW)),
}


def place_steps(placement: dict[str, Any], priority: str = INTERACTIVE) -> None:
    """Place every step of the pipeline that is being built; to be called at the end of its function.

    Args:
        placement: the pipeline's parameters by the names of PlacementConfig's fields. A field that the pipeline
            has no parameter for keeps its default.
        priority: Kueue's priority class of the GPU steps, where there is a queue.
    """
    values = PlacementConfig().model_dump() | placement
    for task in Pipeline.get_default_pipeline().tasks.values():
        needs = _STEPS[task.component_spec.name]
        _give_environment(task, needs, values)
        _ask_for_nodes(task, "gpu" if needs.gpu else "light", values)
        if needs.gpu:
            _ask_for_gpus(task, values, priority)
        _bound(task, needs)


def _give_environment(task: PipelineTask, needs: _Needs, values: dict[str, Any]) -> None:
    """Secrets, the run's id, and folders to write to, so that the root file system may be read-only."""
    for secret in needs.secrets:
        for keys, optional in ((secret.required, False), (secret.optional, True)):
            if keys:
                kubernetes.use_secret_as_env(task, values[secret.parameter], {key: key for key in keys}, optional)
    kubernetes.set_image_pull_secrets(task, [values["image_pull_secret"]])
    kubernetes.use_field_path_as_env(task, "LORALINE_RUN_ID", f"metadata.labels['{RUN_ID_LABEL}']")
    kubernetes.empty_dir_mount(task, "loraline-tmp", "/tmp")
    if needs.trains:
        kubernetes.use_field_path_as_env(task, "LORALINE_POD", "metadata.name")
        kubernetes.use_field_path_as_env(task, "LORALINE_NAMESPACE", "metadata.namespace")
        # Processes of one machine exchange gradients through it, and a container has 64 MB by default.
        kubernetes.empty_dir_mount(task, "loraline-shm", "/dev/shm", medium="Memory")
    if needs.registers:
        # By way of the pod, so that a run outside any image does not claim one.
        for kind, image in (("gpu", images.GPU), ("light", images.LIGHT)):
            kubernetes.add_pod_annotation(task, f"loraline/{kind}-image", image)
            field = f"metadata.annotations['loraline/{kind}-image']"
            kubernetes.use_field_path_as_env(task, f"LORALINE_RUN_{kind.upper()}_IMAGE", field)
    if needs.fetches_models and MODEL_CACHE:
        kubernetes.mount_pvc(task, MODEL_CACHE, "/cache")
    else:
        kubernetes.empty_dir_mount(task, "loraline-cache", "/cache")


def _ask_for_nodes(task: PipelineTask, kind: str, values: dict[str, Any]) -> None:
    cores, memory = values[f"{kind}_cpu"], values[f"{kind}_memory"]
    _hand_through(task, cores, memory)
    task.set_cpu_request(cores).set_memory_request(memory).set_memory_limit(memory)
    kubernetes.add_node_selector_json(task, values[f"{kind}_node_selector"])


def _ask_for_gpus(task: PipelineTask, values: dict[str, Any], priority: str) -> None:
    kind, count = values["accelerator_type"], values["accelerator_count"]
    _hand_through(task, kind, count)
    task.set_accelerator_type(kind).set_accelerator_limit(count)
    kubernetes.add_toleration_json(task, values["gpu_tolerations"])
    kubernetes.add_node_affinity_json(task, values["gpu_affinity"])
    if QUEUE:
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", QUEUE)
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/priority-class", priority)


def _hand_through(task: PipelineTask, *values: Any) -> None:
    """Have parameters reach a step inside a condition: the compiler forgets those that only its resources name."""
    task.register_pipeline_channels([value for value in values if isinstance(value, PipelineChannel)])


def _bound(task: PipelineTask, needs: _Needs) -> None:
    """A timeout for each try, and retries with growing pauses where they are of use."""
    hours = _HOURS_OF_GPU if needs.gpu else _HOURS_OF_LIGHT
    kubernetes.set_timeout(task, hours * 3600)
    if needs.is_retried:
        # The longest duration counts from the first try's start: with KFP's default of an hour, what is evicted
        # in its second hour would not be tried again.
        task.set_retry(
            _RETRIES,
            backoff_duration="60s",
            backoff_factor=2.0,
            backoff_max_duration=f"{hours * (_RETRIES + 1)}h",
        )
