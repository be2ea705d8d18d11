"""What KFP's driver makes of a compiled pipeline: the pod of each step, as it is patched at run time.

Written after the driver's source (backend/src/v2/driver), for what Loraline uses of it, and as strict as it is:
an input that a group does not hand down, or an accelerator count that is not text, is an error here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['(.+)'\]\}\}")
_KNOWN = {
    "secret_as_env",
    "image_pull_secret",
    "field_path_as_env",
    "empty_dir_mounts",
    "pvc_mount",
    "node_selector",
    "tolerations",
    "node_affinity",
    "pod_metadata",
    "active_deadline_seconds",
}


@dataclass(frozen=True)
class Package:
    """A compiled pipeline, read with KFP's own specifications."""

    spec: pipeline_spec_pb2.PipelineSpec
    executors: dict[str, pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec]
    kubernetes: dict[str, Any]
    """Executor -> KubernetesExecutorConfig"""


@dataclass(frozen=True)
class Step:
    """A step as the driver starts it."""

    name: str
    component: str
    image: str
    inputs: dict[str, Any]
    """What its cache key is made of, beside the image and the artifacts"""
    task: pipeline_spec_pb2.PipelineTaskSpec
    pod: dict[str, Any]


def read_package(path: Path) -> Package:
    """Read both documents of a package."""
    spec_document, platform_document = yaml.safe_load_all(path.read_text())
    spec = json_format.ParseDict(spec_document, pipeline_spec_pb2.PipelineSpec())
    deployment = json_format.ParseDict(
        json_format.MessageToDict(spec.deployment_spec), pipeline_spec_pb2.PipelineDeploymentConfig()
    )
    platform = json_format.ParseDict(platform_document, pipeline_spec_pb2.PlatformSpec())
    configs = platform.platforms["kubernetes"].deployment_spec.executors
    return Package(
        spec,
        dict(deployment.executors),
        {
            label: json_format.ParseDict(
                json_format.MessageToDict(config), kubernetes_executor_config_pb2.KubernetesExecutorConfig()
            )
            for label, config in configs.items()
        },
    )


def steps_of(package: Package, **arguments: Any) -> dict[str, Step]:
    """The steps of a run with these arguments (the others at their defaults), in whatever branch they are."""
    parameters = package.spec.root.input_definitions.parameters
    assert set(arguments) <= set(parameters)
    values = {name: json_format.MessageToDict(one.default_value) for name, one in parameters.items()}
    return {step.name: step for step in _steps(package, package.spec.root.dag, {**values, **arguments})}


def _steps(package: Package, dag: pipeline_spec_pb2.DagSpec, group: Mapping[str, Any]) -> Iterator[Step]:
    for name, task in dag.tasks.items():
        inputs = {key: _resolve(value, group) for key, value in task.inputs.parameters.items()}
        component = package.spec.components[task.component_ref.name]
        if component.HasField("dag"):
            yield from _steps(package, component.dag, inputs)
            continue
        container = package.executors[component.executor_label].container
        pod = _pod(container, package.kubernetes[component.executor_label], inputs, group)
        kind = re.sub(r"^comp-|-\d+$", "", task.component_ref.name)
        yield Step(name, kind, container.image, inputs, task, pod)


def _resolve(value: Any, group: Mapping[str, Any]) -> Any:
    """The value of an InputParameterSpec in a group of tasks."""
    if value.WhichOneof("kind") == "component_input_parameter":
        return group[value.component_input_parameter]
    if value.WhichOneof("kind") == "runtime_value":
        return json_format.MessageToDict(value.runtime_value.constant)
    return f"output {value.task_output_parameter.output_parameter_key}"


def _pod(container: Any, config: Any, inputs: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    unknown = {field.name for field, _ in config.ListFields()} - _KNOWN
    assert not unknown, f"not known to these tests: {unknown}"
    mounts, volumes = _volumes(config, group)
    environment = [
        {
            "name": key.env_var,
            "valueFrom": {
                "secretKeyRef": {
                    "name": _resolve(secret.secret_name_parameter, group),
                    "key": key.secret_key,
                    "optional": secret.optional,
                }
            },
        }
        for secret in config.secret_as_env
        for key in secret.key_to_env
    ] + [
        {"name": one.name, "valueFrom": {"fieldRef": {"fieldPath": one.field_path}}} for one in config.field_path_as_env
    ]
    pull_secrets = [{"name": _resolve(one.secret_name_parameter, group)} for one in config.image_pull_secret]
    assert all(secret["name"] for secret in pull_secrets), "a patch without a name is refused"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "step", "labels": dict(config.pod_metadata.labels), **_annotations(config)},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": container.image,
                    "resources": _resources(container.resources, inputs),
                    "env": environment,
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
            "imagePullSecrets": pull_secrets,
            "nodeSelector": _resolve(config.node_selector.node_selector_json, group),
            "tolerations": [
                one for toleration in config.tolerations for one in _resolve(toleration.toleration_json, group)
            ],
            "affinity": {
                "nodeAffinity": {
                    key: value
                    for term in config.node_affinity
                    for key, value in _resolve(term.node_affinity_json, group).items()
                }
            },
            "activeDeadlineSeconds": config.active_deadline_seconds,
        },
    }


def _annotations(config: Any) -> dict[str, dict[str, str]]:
    found = dict(config.pod_metadata.annotations)
    return {"annotations": found} if found else {}


def _resources(resources: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    def value(text: str) -> str:
        found = _PLACEHOLDER.fullmatch(text)
        resolved = inputs[found[1]] if found else text
        assert isinstance(resolved, str), f"{text} is {resolved!r}: the driver takes what is no text for nothing"
        return resolved

    limits = {"memory": value(resources.resource_memory_limit)}
    if resources.HasField("accelerator"):
        accelerator = resources.accelerator
        limits[value(accelerator.resource_type)] = value(accelerator.resource_count)
    requests = {"memory": value(resources.resource_memory_request), "cpu": value(resources.resource_cpu_request)}
    return {"limits": limits, "requests": requests}


def _volumes(config: Any, group: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    claims = [(_resolve(one.pvc_name_parameter, group), one.mount_path) for one in config.pvc_mount]
    folders = [(one.volume_name, one.mount_path) for one in config.empty_dir_mounts]
    assert all(name for name, _ in claims), "the driver refuses a claim without a name"
    return (
        [{"name": name, "mountPath": path} for name, path in claims + folders],
        [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name, _ in claims]
        + [{"name": name, "emptyDir": {}} for name, _ in folders],
    )
