"""Placement of the steps on a cluster: nodes, GPUs, memory, secrets, retries and timeouts, all in one place.

What KFP can resolve at run time is a parameter of the pipelines (PlacementConfig). The rest is fixed at compile time:
retries, timeouts and mounts in `STEP_NEEDS`, and names that differ between clusters in environment variables of
`loraline compile`:

- LORALINE_QUEUE: Kueue's queue for the GPU steps (KFP takes no parameter in a pod's labels);
- LORALINE_MODEL_CACHE: a PersistentVolumeClaim that keeps models between runs (KFP refuses an empty name at run time,
  so that a parameter could not be left out). It must be writable for the images' user, 10001.

KFP has no field for an ephemeral storage request, nor for a volume's group.

Accelerator, memory and CPU are in the cache key of their steps, because KFP passes them as inputs: a step runs again
with another memory size. Node selectors, secrets and the run's id are not. The local runner ignores all of this.
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
"""Kueue priority class of a run that a person waits for."""
SCHEDULED = "loraline-scheduled"
"""Kueue priority class of a scheduled run: it can be preempted, and resumes from its checkpoint."""

RUN_ID_LABEL = "pipeline/runid"
"""The label that KFP puts on every pod of a run."""

# KFP retries every failure or none: a recipe error that shows only in a GPU step (training that diverges) fails this
# many times more before the run does, each time from its checkpoint.
_RETRIES = 3
_LIGHT_TIMEOUT_HOURS = 6
_GPU_TIMEOUT_HOURS = 72


class PlacementConfig(StepConfig):
    """Where steps run. GPU steps load a model; the others are light."""

    accelerator_type: str = "nvidia.com/gpu"
    """Kubernetes resource name of the GPUs that a GPU step requests."""
    accelerator_count: str = "1"
    """GPUs of a GPU step; 0 for CPUs only. Only training uses more than 1. A string, as KFP drops a number here."""
    gpu_memory: str = "32Gi"
    """Memory of a GPU step (request and limit)."""
    gpu_cpu: str = "4"
    """CPU request of a GPU step; it may use more."""
    gpu_node_selector: dict[str, str] = Field(default={})
    """Node selector of GPU steps, such as {"nvidia.com/gpu.product": "NVIDIA-H200"}."""
    gpu_tolerations: list[dict[str, Any]] = Field(
        default=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    )
    """Tolerations of GPU steps, as in a pod's `tolerations`."""
    gpu_affinity: dict[str, Any] = Field(default={})
    """Node affinity of GPU steps, as in a pod's `affinity.nodeAffinity`."""
    light_memory: str = "4Gi"
    """Memory of a light step (request and limit)."""
    light_cpu: str = "1"
    """CPU request of a light step; it may use more."""
    light_node_selector: dict[str, str] = Field(default={})
    """Node selector of light steps."""
    s3_secret: str = "loraline-s3"
    """Secret with AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, optionally, AWS_REGION."""
    mlflow_secret: str = "loraline-mlflow"
    """Secret with MLFLOW_TRACKING_URI and, optionally, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""
    hub_secret: str = "loraline-hub"
    """Secret with HF_TOKEN, for gated models. Optional."""
    image_pull_secret: str = "loraline-registry"
    """Secret with the credentials of the images' registry. Optional where the nodes can pull without it."""


@dataclass(frozen=True)
class SecretKeys:
    """The keys of a secret; each becomes the environment variable of the same name."""

    parameter: str
    """The field of PlacementConfig that names the secret."""
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


_S3 = SecretKeys("s3_secret", ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_REGION",))
_MLFLOW = SecretKeys(
    "mlflow_secret", ("MLFLOW_TRACKING_URI",), ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
)
_HUB = SecretKeys("hub_secret", optional=("HF_TOKEN",))


@dataclass(frozen=True)
class StepNeeds:
    """What a step needs from the cluster."""

    secrets: tuple[SecretKeys, ...] = ()
    gpu: bool = False
    is_retried: bool = False
    """For steps that fail by eviction, or because a store does not answer, rather than by an error in the recipe or
    the data, which fails every attempt."""
    fetches_models: bool = False
    registers: bool = False
    """For the step that records the images of the run in the model version."""
    trains: bool = False
    """For the step that may use several GPUs, and may create a TrainJob from its own pod's spec."""


STEP_NEEDS = {
    "resolve-recipe": StepNeeds((_S3, _MLFLOW, _HUB)),
    "check-freshness": StepNeeds((_MLFLOW,)),
    "prepare-dataset": StepNeeds((_S3, _MLFLOW, _HUB)),
    "load-model": StepNeeds((_S3, _MLFLOW, _HUB), gpu=True, is_retried=True, fetches_models=True),
    "train-lora": StepNeeds((_S3, _MLFLOW), gpu=True, is_retried=True, trains=True),
    "evaluate-model": StepNeeds((_S3, _MLFLOW), gpu=True, is_retried=True),
    "merge-adapter": StepNeeds(gpu=True, is_retried=True),
    "gate": StepNeeds(),
    "register-model": StepNeeds((_S3, _MLFLOW), is_retried=True, registers=True),
    "report": StepNeeds((_MLFLOW,), is_retried=True),
    "promote-model": StepNeeds((_S3, _MLFLOW)),
}


def place_steps(placement: dict[str, Any], priority: str = INTERACTIVE) -> None:
    """Set the placement of every step of the pipeline that is being built; call it at the end of its function.

    Args:
        placement: the pipeline's parameters by the names of PlacementConfig's fields. A field without a
            parameter keeps its default.
        priority: Kueue priority class of the GPU steps, if there is a queue.
    """
    values = PlacementConfig().model_dump() | placement
    for task in Pipeline.get_default_pipeline().tasks.values():
        needs = STEP_NEEDS[task.component_spec.name]
        _set_environment(task, needs, values)
        _set_resources(task, "gpu" if needs.gpu else "light", values)
        if needs.gpu:
            _set_gpus(task, values, priority)
        _set_timeout_and_retries(task, needs)


def _set_environment(task: PipelineTask, needs: StepNeeds, values: dict[str, Any]) -> None:
    """Set secrets, the run's id and writable folders, so that the root file system may be read-only."""
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
        # Processes on one machine exchange gradients through it; a container's default is 64 MB.
        kubernetes.empty_dir_mount(task, "loraline-shm", "/dev/shm", medium="Memory")
    if needs.registers:
        # Through the pod's annotations, so that a run outside a container records no image.
        for kind, image in (("gpu", images.GPU), ("light", images.LIGHT)):
            kubernetes.add_pod_annotation(task, f"loraline/{kind}-image", image)
            field = f"metadata.annotations['loraline/{kind}-image']"
            kubernetes.use_field_path_as_env(task, f"LORALINE_RUN_{kind.upper()}_IMAGE", field)
    if needs.fetches_models and MODEL_CACHE:
        kubernetes.mount_pvc(task, MODEL_CACHE, "/cache")
    else:
        kubernetes.empty_dir_mount(task, "loraline-cache", "/cache")


def _set_resources(task: PipelineTask, kind: str, values: dict[str, Any]) -> None:
    cores, memory = values[f"{kind}_cpu"], values[f"{kind}_memory"]
    _pass_to_conditions(task, cores, memory)
    task.set_cpu_request(cores).set_memory_request(memory).set_memory_limit(memory)
    kubernetes.add_node_selector_json(task, values[f"{kind}_node_selector"])


def _set_gpus(task: PipelineTask, values: dict[str, Any], priority: str) -> None:
    kind, count = values["accelerator_type"], values["accelerator_count"]
    _pass_to_conditions(task, kind, count)
    task.set_accelerator_type(kind).set_accelerator_limit(count)
    kubernetes.add_toleration_json(task, values["gpu_tolerations"])
    kubernetes.add_node_affinity_json(task, values["gpu_affinity"])
    if QUEUE:
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", QUEUE)
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/priority-class", priority)


def _pass_to_conditions(task: PipelineTask, *values: Any) -> None:
    """Pass parameters to a step inside a condition: the compiler drops those that only its resources use."""
    task.register_pipeline_channels([value for value in values if isinstance(value, PipelineChannel)])


def _set_timeout_and_retries(task: PipelineTask, needs: StepNeeds) -> None:
    """Set a timeout for each attempt, and retries with exponential backoff where they help."""
    hours = _GPU_TIMEOUT_HOURS if needs.gpu else _LIGHT_TIMEOUT_HOURS
    kubernetes.set_timeout(task, hours * 3600)
    if needs.is_retried:
        # backoff_max_duration counts from the start of the first attempt: with KFP's default of one hour, a step that
        # is evicted in its second hour would not be retried.
        task.set_retry(
            _RETRIES,
            backoff_duration="60s",
            backoff_factor=2.0,
            backoff_max_duration=f"{hours * (_RETRIES + 1)}h",
        )
