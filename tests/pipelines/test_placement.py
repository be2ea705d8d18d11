"""Where a cluster would run the steps of the compiled pipelines, and with what."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from components import images
from pipelines.compile import PIPELINES, compile_pipelines
from pipelines.placement import INTERACTIVE, RUN_ID_LABEL, SCHEDULED, PlacementConfig
from tests.pipelines.pods import Package, Step, read_package, steps_of

ROOT = Path(__file__).parent.parent.parent
S3 = {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}
MLFLOW = {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
HUB = {"HF_TOKEN"}
NEEDED_SECRETS = {
    "resolve-recipe": S3 | MLFLOW | HUB,
    "check-freshness": MLFLOW,
    "prepare-dataset": S3 | MLFLOW | HUB,
    "load-model": S3 | MLFLOW | HUB,
    "train-lora": S3 | MLFLOW,
    "evaluate-model": S3 | MLFLOW,
    "merge-adapter": set(),
    "gate": set(),
    "register-model": S3 | MLFLOW,
    "report": MLFLOW,
    "promote-model": S3 | MLFLOW,
}
GPU_STEPS = {"load-model", "train-lora", "evaluate-model", "merge-adapter"}
# What a person may write into the form, each different from the default and what Kubernetes takes.
FILLED_IN: dict[str, Any] = {
    "accelerator_type": "amd.com/gpu",
    "accelerator_count": "0",
    "gpu_memory": "100Gi",
    "gpu_cpu": "500m",
    "gpu_node_selector": {"nvidia.com/gpu.product": "NVIDIA-H200"},
    "gpu_tolerations": [{"key": "spot", "operator": "Equal", "value": "true", "effect": "NoExecute"}],
    "gpu_affinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
        }
    },
    "light_memory": "2Gi",
    "light_cpu": "2",
    "light_node_selector": {"pool": "light"},
    "s3_secret": "my-s3",
    "mlflow_secret": "my-mlflow",
    "hub_secret": "my-hub",
    "image_pull_secret": "my-registry",
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    return {path.stem: read_package(path) for path in compile_pipelines(tmp_path_factory.mktemp("compiled"))}


@pytest.fixture(scope="module", params=list(PIPELINES))
def package(request: pytest.FixtureRequest, packages: dict[str, Package]) -> Package:
    return packages[request.param]


@pytest.fixture(scope="module")
def steps(package: Package) -> list[Step]:
    return list(steps_of(package).values())


def container(step: Step) -> dict[str, Any]:
    found: dict[str, Any] = step.pod["spec"]["containers"][0]
    return found


def test_every_step_is_there(packages: dict[str, Package]) -> None:
    kinds = {name: {step.component for step in steps_of(package).values()} for name, package in packages.items()}
    assert kinds["finetune"] == set(NEEDED_SECRETS) - {"check-freshness", "promote-model"}
    assert kinds["retrain"] == kinds["finetune"] | {"check-freshness"}
    assert kinds["promote"] == {"promote-model"}


def test_gpu_steps_and_no_others_ask_for_gpus(steps: list[Step]) -> None:
    for step in steps:
        limits = container(step)["resources"]["limits"]
        if step.component in GPU_STEPS:
            assert step.image == images.GPU
            assert limits == {"memory": "32Gi", "nvidia.com/gpu": "1"}
            assert step.pod["spec"]["tolerations"] == PlacementConfig().gpu_tolerations
        else:
            assert step.image == images.LIGHT
            assert limits == {"memory": "4Gi"}
            assert not step.pod["spec"]["tolerations"]


def test_a_step_gets_the_secrets_that_it_needs_and_no_others(steps: list[Step]) -> None:
    for step in steps:
        references = [one["valueFrom"].get("secretKeyRef") for one in container(step)["env"]]
        given = {one["key"]: (one["name"], one["optional"]) for one in references if one}
        assert set(given) == NEEDED_SECRETS[step.component], step.name
        names = {"AWS": "loraline-s3", "MLF": "loraline-mlflow", "HF_": "loraline-hub"}
        assert all(name == names[key[:3]] for key, (name, _) in given.items())
        may_lack = {"AWS_REGION", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN"}
        assert {key for key, (_, optional) in given.items() if optional} == set(given) & may_lack


def test_every_step_knows_the_run_and_may_write_where_its_image_does(steps: list[Step]) -> None:
    for step in steps:
        references = {one["name"]: one["valueFrom"].get("fieldRef") for one in container(step)["env"]}
        assert references["LORALINE_RUN_ID"] == {"fieldPath": f"metadata.labels['{RUN_ID_LABEL}']"}
        shared_memory = {"/dev/shm"} if step.component == "train-lora" else set()
        assert {one["mountPath"] for one in container(step)["volumeMounts"]} == {"/tmp", "/cache"} | shared_memory


def test_training_knows_its_own_pod_and_no_other_step_does(steps: list[Step]) -> None:
    for step in steps:
        fields = {one["name"]: one["valueFrom"].get("fieldRef", {}).get("fieldPath") for one in container(step)["env"]}
        own = {"LORALINE_POD": "metadata.name", "LORALINE_NAMESPACE": "metadata.namespace"}
        assert {name: fields[name] for name in own if name in fields} == (own if step.component == "train-lora" else {})


def test_registration_knows_the_images_that_the_steps_ran_in_and_no_other_step_does(steps: list[Step]) -> None:
    for step in steps:
        fields = {one["name"]: one["valueFrom"].get("fieldRef", {}).get("fieldPath") for one in container(step)["env"]}
        annotations = step.pod["metadata"].get("annotations", {})
        if step.component != "register-model":
            assert not annotations
            continue
        for kind, image in (("gpu", images.GPU), ("light", images.LIGHT)):
            assert annotations[f"loraline/{kind}-image"] == image
            assert fields[f"LORALINE_RUN_{kind.upper()}_IMAGE"] == f"metadata.annotations['loraline/{kind}-image']"


def test_the_cache_key_holds_sizes_and_neither_nodes_nor_secrets_nor_the_run(steps: list[Step]) -> None:
    sizes = {"accelerator_type", "accelerator_count", "gpu_cpu", "gpu_memory", "light_cpu", "light_memory"}
    for step in steps:
        handed_through = {key.removeprefix("pipelinechannel--") for key in step.inputs if "--" in key}
        assert handed_through <= sizes


def test_retries_are_for_what_another_try_may_mend(steps: list[Step]) -> None:
    retried = {step.component: step.task.retry_policy for step in steps if step.task.retry_policy.max_retry_count}
    assert set(retried) == {step.component for step in steps} & (GPU_STEPS | {"register-model", "report"})
    for step in steps:
        if step.component in retried:
            policy = retried[step.component]
            assert policy.backoff_duration.seconds > 0
            assert policy.backoff_factor > 1
            # Argo counts this from the first try's start, and tries no more after it.
            tries = policy.max_retry_count + 1
            assert policy.backoff_max_duration.seconds >= tries * step.pod["spec"]["activeDeadlineSeconds"]


def test_every_try_has_an_end(steps: list[Step]) -> None:
    for step in steps:
        hours = step.pod["spec"]["activeDeadlineSeconds"] / 3600
        assert hours == (72 if step.component in GPU_STEPS else 6)


def placement_of(package: Package) -> dict[str, Any]:
    return {name: value for name, value in FILLED_IN.items() if name in package.spec.root.input_definitions.parameters}


def test_no_parameter_is_ignored(package: Package) -> None:
    before = [step.pod for step in steps_of(package).values()]
    for name, value in placement_of(package).items():
        assert [step.pod for step in steps_of(package, **{name: value}).values()] != before, name


def test_a_person_can_survey_them(packages: dict[str, Package]) -> None:
    assert set(FILLED_IN) == set(PlacementConfig.model_fields)
    assert set(placement_of(packages["finetune"])) == set(placement_of(packages["retrain"])) == set(FILLED_IN)
    assert len(FILLED_IN) <= 14


@pytest.mark.parametrize("version", ["1.33", "1.37"])
def test_kubernetes_takes_every_pod(package: Package, version: str) -> None:
    for arguments in ({}, placement_of(package)):
        for step in steps_of(package, **arguments).values():
            kubernetes_validate.validate(json.loads(json.dumps(step.pod)), version, strict=True)


def test_what_kfp_fixes_at_compile_time_comes_from_the_environment(tmp_path: Path) -> None:
    script = f"from pathlib import Path; from pipelines.compile import *; compile_pipelines(Path({str(tmp_path)!r}))"
    environment = {**os.environ, "LORALINE_QUEUE": "loraline", "LORALINE_MODEL_CACHE": "loraline-model-cache"}
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=True)
    for name, priority in (("finetune", INTERACTIVE), ("retrain", SCHEDULED)):
        for step in steps_of(read_package(tmp_path / f"{name}.yaml")).values():
            labels = step.pod["metadata"]["labels"]
            in_queue = {"kueue.x-k8s.io/queue-name": "loraline", "kueue.x-k8s.io/priority-class": priority}
            assert labels == (in_queue if step.component in GPU_STEPS else {})
            mounts = {one["mountPath"]: one["name"] for one in container(step)["volumeMounts"]}
            claim = "loraline-model-cache" if step.component == "load-model" else "loraline-cache"
            assert {path: mounts[path] for path in ("/tmp", "/cache")} == {"/tmp": "loraline-tmp", "/cache": claim}
    assert steps_of(read_package(tmp_path / "promote.yaml"))["promote-model"].pod["metadata"]["labels"] == {}


def test_the_priorities_are_those_of_the_manifests() -> None:
    resources = yaml.safe_load_all((ROOT / "manifests/overlays/kueue/queues.yaml").read_text())
    classes = {one["metadata"]["name"] for one in resources if one["kind"] == "WorkloadPriorityClass"}
    assert {INTERACTIVE, SCHEDULED} <= classes
