"""Training on several nodes: the TrainJob manifest, and the step against a Kubernetes API over HTTP."""

import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loraline.artifacts.training import TrainReport
from loraline.errors import ClusterError, ConfigurationError, TrainingError
from loraline.step import step
from loraline.training.config import TrainConfig
from loraline.training.launch import launch
from loraline.training.multinode.trainjob import NodeJob, trainjob_manifest
from loraline.training.multinode.trainjob_runner import train_on_nodes
from loraline.training.train import train
from loraline.training.worker_processes import WorkerJob
from tests.loraline.training.multinode.kubernetes_double import NAMESPACE, Cluster, serve, validation_error
from tests.loraline.training.test_distributed import assert_same

ModelMaker = Callable[..., Path]
CONFIG = TrainConfig(rank=4, learning_rate=1e-2, max_length=256, batch_size=4, epochs=1, max_steps=4, nodes=2)
S3_KEYS = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
# A node that does not train: it waits for a file, and the first node uploads a result.
SUBSTITUTE = """
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
# The second node has an error of its own; the first has only lost its peer.
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
    """The step's pod as KFP, Argo and Kubernetes create it: the fields that are read."""
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


def test_manifest_is_valid_and_has_the_placement_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("LORALINE_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LORALINE_RUN_ID", "run-1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "dates")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hidden")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hidden")
    made = trainjob_manifest("loraline-1", own_pod("8"), JOB)
    assert validation_error(made) == ""
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "finetune-x", "uid": "u-1"}
    ]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "loraline"
    trainer = made["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 2), "a step has four rows"
    larger = JOB.model_copy(update={"config": CONFIG.model_copy(update={"batch_size": 16})})
    assert trainjob_manifest("loraline-1", own_pod("8"), larger)["spec"]["trainer"]["numProcPerNode"] == 8
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


def test_validation_finds_unknown_fields_and_wrong_types() -> None:
    made = trainjob_manifest("loraline-1", own_pod(), JOB)
    made["spec"]["trainer"]["numberOfNodes"] = 2
    assert "spec.trainer.numberOfNodes" in validation_error(made)
    made = trainjob_manifest("loraline-1", own_pod(), JOB)
    made["spec"]["trainer"]["numNodes"] = "2"
    assert "valid integer" in validation_error(made)


@pytest.fixture
def cluster(
    tmp_path: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Cluster]:
    """A Kubernetes API; its nodes run the command of the TrainJob, or a substitute."""
    (tmp_path / "cluster").mkdir()
    made = Cluster(tmp_path / "cluster", own_pod(), {"loraline-s3": {name: s3[name] for name in S3_KEYS}})
    with serve(made) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.setenv("LORALINE_POD", "finetune-x-train")
        monkeypatch.setenv("LORALINE_NAMESPACE", NAMESPACE)
        monkeypatch.setenv("LORALINE_RUN_ID", "run-1")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        yield made


def test_two_nodes_train_the_adapter_of_one_process(
    cluster: Cluster, make_model: ModelMaker, dataset: Path, tmp_path: Path
) -> None:
    launch(CONFIG, make_model(), dataset, tmp_path / "two", "s3://nodes/checkpoints")
    train(CONFIG.model_copy(update={"nodes": 1}), make_model(), dataset, tmp_path / "one")
    assert TrainReport.load(tmp_path / "two").processes == 2
    assert_same(tmp_path / "two", tmp_path / "one")
    assert len(cluster.created) == 1
    assert not cluster.jobs, "the TrainJob is deleted when it is done"

    # A retry after the adapter was uploaded: no TrainJob is created.
    launch(CONFIG, make_model(), dataset, tmp_path / "again", "s3://nodes/checkpoints")
    assert len(cluster.created) == 1
    assert (tmp_path / "again" / "training.json").read_bytes() == (tmp_path / "two" / "training.json").read_bytes()


@pytest.fixture
def job(make_model: ModelMaker, dataset: Path, tmp_path: Path) -> WorkerJob:
    """A training with a key of its own for each test."""
    return WorkerJob(
        config=CONFIG.model_copy(update={"learning_rate": 1e-3 + zlib.crc32(tmp_path.name.encode()) * 1e-15}),
        model=make_model(),
        dataset=dataset,
        output=tmp_path / "adapter",
        checkpoints="s3://nodes/checkpoints",
    )


@pytest.fixture
def ready(cluster: Cluster, tmp_path: Path) -> Path:
    """Let nodes run the substitute; they are done once this file exists."""
    cluster.command = ["-c", SUBSTITUTE, str(tmp_path / "ready")]
    return tmp_path / "ready"


def run(job: WorkerJob) -> None:
    train_on_nodes(job, poll_seconds=0.02)


def lose_step_while_waiting(cluster: Cluster, job: WorkerJob) -> None:
    """An attempt of the step that ends without deleting its TrainJob."""
    cluster.refusals["GET"] = [0, 0, 0, 401]  # answered for the pod, and for the job before and after its creation
    with pytest.raises(ClusterError, match="401"):
        run(job)
    assert len(cluster.jobs) == 1


def test_failure_has_the_log_of_its_cause_and_is_retried(cluster: Cluster, job: WorkerJob, ready: Path) -> None:
    substitute, cluster.command = cluster.command, ["-c", FAILING]
    with pytest.raises(TrainingError, match=r"JobsFailed.*exit status 65\):\n    train_lora failed: no token"):
        run(job)
    cluster.command = substitute
    ready.touch()
    run(job)
    assert (job.output / "adapter").read_text() == "trained"
    assert len(cluster.created) == 2


def test_retry_waits_for_the_trainjob_of_a_killed_attempt(
    cluster: Cluster, job: WorkerJob, ready: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_step_while_waiting(cluster, job)
    threading.Timer(0.5, ready.touch).start()
    run(job)
    assert (job.output / "adapter").read_text() == "trained"
    assert len(cluster.created) == 1
    assert not cluster.jobs
    output = capsys.readouterr().out
    assert f"waiting for TrainJob {cluster.created[0]['metadata']['name']}, which exists" in output
    assert output.count("node 0: 3/4 steps") == 1
    assert "node 1" not in output


@pytest.mark.parametrize("created_by", ["run-1", "another-run"])
def test_terminated_step_deletes_its_own_trainjob(
    created_by: str, cluster: Cluster, job: WorkerJob, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORALINE_RUN_ID", created_by)
    lose_step_while_waiting(cluster, job)
    monkeypatch.setenv("LORALINE_RUN_ID", "run-1")
    (nodes,) = cluster.nodes.values()
    before = signal.getsignal(signal.SIGTERM)
    threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        with pytest.raises(SystemExit), step("train_lora"):
            run(job)
    finally:
        signal.signal(signal.SIGTERM, before)
    is_ended = created_by == "run-1"
    assert bool(cluster.jobs) != is_ended
    assert [node.poll() is not None for node in nodes] == [is_ended, is_ended]


def test_unreachable_api_is_retried(
    cluster: Cluster, job: WorkerJob, ready: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.refusals = {"GET": [0, 0, 503, 0, 500, 429], "POST": [503]}
    ready.touch()
    run(job)
    assert (job.output / "adapter").exists()
    assert "their status is not known: the Kubernetes API answers 503" in capsys.readouterr().out
    assert len(cluster.created) == 1


@pytest.mark.parametrize(
    ("status", "message"), [(403, "apply manifests/overlays/multi-node"), (404, "install Kubeflow Trainer")]
)
def test_error_for_a_cluster_without_permission_or_trainer(
    status: int, message: str, cluster: Cluster, job: WorkerJob, ready: Path
) -> None:
    cluster.refusals = {"POST": [status]}
    with pytest.raises(ConfigurationError, match=message):
        run(job)


def test_error_without_an_object_store(job: WorkerJob) -> None:
    with pytest.raises(ConfigurationError, match="needs an object store"):
        run(job.model_copy(update={"checkpoints": "/var/checkpoints"}))
