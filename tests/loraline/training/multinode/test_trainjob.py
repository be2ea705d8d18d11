"""Training on several nodes: the TrainJob by the official models, and the step against an API server over HTTP."""

import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loraline.errors import ClusterError, ConfigurationError, TrainingError
from loraline.step import step
from loraline.training.config import TrainConfig
from loraline.training.launch import launch
from loraline.training.multinode.trainjob import NodeJob, trainjob_manifest
from loraline.training.multinode.trainjob_runner import train_on_nodes
from loraline.training.torchrun import TorchrunJob
from loraline.training.train import train
from tests.loraline.training.multinode.kubernetes_double import NAMESPACE, Cluster, problem, serve
from tests.loraline.training.test_distributed import assert_same, read_report

ModelMaker = Callable[..., Path]
CONFIG = TrainConfig(rank=4, learning_rate=1e-2, max_length=256, batch_size=4, epochs=1, max_steps=4, nodes=2)
S3_KEYS = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
# A node that does not train: it waits for a file, and the first puts something down as the result.
STAND_IN = """
import json, os, sys, tempfile, time
from pathlib import Path
from loraline.training.multinode.folder_transfer import upload_folder
print(f"node {os.environ['PET_NODE_RANK']}: 3/4 steps", flush=True)
while not Path(sys.argv[1]).exists():
    time.sleep(0.02)
if os.environ["PET_NODE_RANK"] == "0":
    made = Path(tempfile.mkdtemp())
    (made / "adapter").write_text("trained")
    upload_folder(made, json.loads(sys.argv[2])["result"])
"""
# The second node knows why; the first has only lost it.
FAILING = """
import os, sys, time
first = os.environ["PET_NODE_RANK"] == "0"
time.sleep(first)
print("train_lora was interrupted" if first else "train_lora failed: no token carries loss")
sys.exit(1 if first else 65)
"""


def secret(name: str, optional: bool = False) -> dict[str, Any]:
    reference = {"name": "loraline-s3", "key": name, "optional": optional}
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def own_pod(gpus: str = "") -> dict[str, Any]:
    """The step's pod as KFP, Argo and Kubernetes make it, as far as it is read."""
    limits = {"memory": "8Gi"} | ({"nvidia.com/gpu": gpus} if gpus else {})
    main = {
        "name": "main",
        "image": "registry.example/loraline-gpu:0.1.0",
        "command": ["/var/run/argo/argoexec", "emissary"],
        "env": [
            *[secret(name) for name in S3_KEYS],
            secret("MLFLOW_TRACKING_PASSWORD", optional=True),
            {"name": "LORALINE_RUN_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['pipeline/runid']"}}},
            {"name": "ARGO_CONTAINER_NAME", "value": "main"},
        ],
        "resources": {"limits": limits, "requests": {"memory": "8Gi", "cpu": "4"}},
    }
    owner = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "name": "finetune-x",
        "uid": "u-1",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    queue = {"kueue.x-k8s.io/queue-name": "loraline", "kueue.x-k8s.io/priority-class": "loraline-interactive"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "finetune-x-train",
            "namespace": NAMESPACE,
            "uid": "u-2",
            "labels": {**queue, "pipeline/runid": "run-1"},
            "ownerReferences": [owner],
        },
        "spec": {
            "containers": [{"name": "wait", "image": "argoexec"}, main],
            "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H200"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {},
            "imagePullSecrets": [{"name": "loraline-registry"}],
        },
    }


JOB = NodeJob(config=CONFIG, model="s3://b/m", dataset="s3://b/d", result="s3://b/r", checkpoints="s3://b/c")


def test_the_manifest_is_a_trainjob_and_places_nodes_as_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("LORALINE_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LORALINE_RUN_ID", "run-1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "dates")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hidden")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hidden")
    made = trainjob_manifest("loraline-1", own_pod("8"), JOB)
    assert problem(made) == ""
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "finetune-x", "uid": "u-1"}
    ]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "loraline"
    trainer = made["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 8)
    assert trainer["image"] == "registry.example/loraline-gpu:0.1.0"
    assert trainer["resourcesPerNode"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "8"}
    assert {entry["name"]: entry.get("value") for entry in trainer["env"]} == {
        **dict.fromkeys([*S3_KEYS, "MLFLOW_TRACKING_PASSWORD"]),
        "LORALINE_RUN_ID": "run-1",
        "MLFLOW_EXPERIMENT_NAME": "dates",
    } | {name: os.environ[name] for name in os.environ if name in ("MLFLOW_TRACKING_URI", "MLFLOW_DISABLE_TELEMETRY")}
    assert "hidden" not in str(made)
    (patch,) = made["spec"]["runtimePatches"]
    placed = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert placed["spec"] == {
        key: own_pod()["spec"][key] for key in ("nodeSelector", "tolerations", "imagePullSecrets")
    }


def test_the_models_refuse_what_is_no_trainjob() -> None:
    made = trainjob_manifest("loraline-1", own_pod(), JOB)
    made["spec"]["trainer"]["numberOfNodes"] = 2
    assert "spec.trainer.numberOfNodes" in problem(made)
    made = trainjob_manifest("loraline-1", own_pod(), JOB)
    made["spec"]["trainer"]["numNodes"] = "2"
    assert "valid integer" in problem(made)


@pytest.fixture
def cluster(
    tmp_path: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Cluster]:
    """An API server; its nodes run what TrainJobs ask for, or the stand-in."""
    (tmp_path / "cluster").mkdir()
    made = Cluster(tmp_path / "cluster", own_pod(), {"loraline-s3": {name: s3[name] for name in S3_KEYS}})
    with serve(made) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.setenv("LORALINE_POD", "finetune-x-train")
        monkeypatch.setenv("LORALINE_NAMESPACE", NAMESPACE)
        monkeypatch.setenv("LORALINE_RUN_ID", "run-1")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        yield made


def test_nodes_bring_back_the_adapter_of_one_process(
    cluster: Cluster, make_model: ModelMaker, dataset: Path, tmp_path: Path
) -> None:
    launch(CONFIG, make_model(), dataset, tmp_path / "two", "s3://nodes/checkpoints")
    train(CONFIG.model_copy(update={"nodes": 1}), make_model(), dataset, tmp_path / "one")
    assert read_report(tmp_path / "two")["processes"] == 2
    assert_same(tmp_path / "two", tmp_path / "one")
    assert len(cluster.created) == 1
    assert not cluster.jobs, "what is done is removed"

    # Started again after a kill in its last moment: the adapter is there, and no job is made for it.
    launch(CONFIG, make_model(), dataset, tmp_path / "again", "s3://nodes/checkpoints")
    assert len(cluster.created) == 1
    assert (tmp_path / "again" / "training.json").read_bytes() == (tmp_path / "two" / "training.json").read_bytes()


@pytest.fixture
def job(make_model: ModelMaker, dataset: Path, tmp_path: Path) -> TorchrunJob:
    """A training of this test's own: its key is of no other."""
    return TorchrunJob(
        config=CONFIG.model_copy(update={"learning_rate": 1e-3 + zlib.crc32(tmp_path.name.encode()) * 1e-15}),
        model=make_model(),
        dataset=dataset,
        output=tmp_path / "adapter",
        checkpoints="s3://nodes/checkpoints",
    )


@pytest.fixture
def ready(cluster: Cluster, tmp_path: Path) -> Path:
    """Have nodes stand in; they are done once this file is there."""
    cluster.command = ["-c", STAND_IN, str(tmp_path / "ready")]
    return tmp_path / "ready"


def follow(job: TorchrunJob) -> None:
    train_on_nodes(job, poll_seconds=0.02)


def die_following(cluster: Cluster, job: TorchrunJob) -> None:
    """A try of the step that ends without a chance to end its job."""
    cluster.refusals["GET"] = [0, 0, 0, 401]  # the pod, the job before and after it is made, and then no more
    with pytest.raises(ClusterError, match="401"):
        follow(job)
    assert len(cluster.jobs) == 1


def test_nodes_that_fail_say_why_and_are_tried_again(cluster: Cluster, job: TorchrunJob, ready: Path) -> None:
    stand_in, cluster.command = cluster.command, ["-c", FAILING]
    with pytest.raises(TrainingError, match=r"JobsFailed.*exit status 65\):\n    train_lora failed: no token"):
        follow(job)
    cluster.command = stand_in
    ready.touch()
    follow(job)
    assert (job.output / "adapter").read_text() == "trained"
    assert len(cluster.created) == 2


def test_the_job_of_a_try_that_was_killed_is_followed(
    cluster: Cluster, job: TorchrunJob, ready: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    die_following(cluster, job)
    threading.Timer(0.5, ready.touch).start()
    follow(job)
    assert (job.output / "adapter").read_text() == "trained"
    assert len(cluster.created) == 1
    assert not cluster.jobs
    said = capsys.readouterr().out
    assert f"waiting for TrainJob {cluster.created[0]['metadata']['name']}, which exists" in said
    assert said.count("node 0: 3/4 steps") == 1
    assert "node 1" not in said


@pytest.mark.parametrize("made_by", ["run-1", "another-run"])
def test_a_step_that_is_terminated_ends_its_own_job(
    made_by: str, cluster: Cluster, job: TorchrunJob, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORALINE_RUN_ID", made_by)
    die_following(cluster, job)
    monkeypatch.setenv("LORALINE_RUN_ID", "run-1")
    (nodes,) = cluster.nodes.values()
    before = signal.getsignal(signal.SIGTERM)
    threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        with pytest.raises(SystemExit), step("train_lora"):
            follow(job)
    finally:
        signal.signal(signal.SIGTERM, before)
    is_ended = made_by == "run-1"
    assert bool(cluster.jobs) != is_ended
    assert [node.poll() is not None for node in nodes] == [is_ended, is_ended]


def test_a_server_that_is_away_is_waited_for(
    cluster: Cluster, job: TorchrunJob, ready: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.refusals = {"GET": [0, 0, 503, 0, 500, 429], "POST": [503]}
    ready.touch()
    follow(job)
    assert (job.output / "adapter").exists()
    assert "their status is not known: the Kubernetes API answers 503" in capsys.readouterr().out
    assert len(cluster.created) == 1


@pytest.mark.parametrize(
    ("status", "message"), [(403, "apply manifests/overlays/multi-node"), (404, "install Kubeflow Trainer")]
)
def test_a_cluster_that_is_not_set_up_is_told_so(
    status: int, message: str, cluster: Cluster, job: TorchrunJob, ready: Path
) -> None:
    cluster.refusals = {"POST": [status]}
    with pytest.raises(ConfigurationError, match=message):
        follow(job)


def test_nodes_need_an_object_store(job: TorchrunJob) -> None:
    with pytest.raises(ConfigurationError, match="needs an object store"):
        follow(job.model_copy(update={"checkpoints": "/var/checkpoints"}))
