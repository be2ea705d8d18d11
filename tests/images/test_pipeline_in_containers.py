"""The whole pipeline in the images, each step in its own as on a cluster, to the numbers of `loraline run`.

kfp.local's DockerRunner runs the steps. The base is the quickstart's: a recipe that names it is resolved in the light
image, which has no torch, and the model is trained in the gpu image. Each step's image has what the step imports, the
step may write where it writes, and it computes what it computes on this machine.
"""

import json
import os
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from loraline import storage
from loraline.progress import EVENT_MARK
from loraline.recipe_file import load_recipe
from pipelines.local import s3_server
from pipelines.local.run import LocalStep
from pipelines.local.summary import Summary, write_summary
from pipelines.placement import STEP_NEEDS
from tests.images.engine import Engine

pytestmark = pytest.mark.containers

ROOT = Path(__file__).parents[2]
LORALINE = Path(sysconfig.get_path("scripts")) / "loraline"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 server and an MLflow server; the environment variables that reach them."""
    folder = tmp_path_factory.mktemp("stores")
    with s3_server.serve(folder / "s3") as s3, mlflow_server(folder / "mlflow") as tracking:
        yield {**s3, "MLFLOW_TRACKING_URI": tracking, "MLFLOW_DISABLE_TELEMETRY": "true"}


class mlflow_server:  # noqa: N801
    """An MLflow server on a loopback port, with its files in a folder; gives its address."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        command += ["--artifacts-destination", str(folder), "--port", self.address.rsplit(":", 1)[1]]
        fast = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(command, env=fast, stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self) -> str:
        deadline = time.monotonic() + 120
        while not self._healthy():
            assert self.process.poll() is None
            assert time.monotonic() < deadline, "the MLflow server does not answer"
            time.sleep(0.5)
        return self.address

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


SETTINGS = [
    *("training.max_steps=20", "training.max_length=128", "training.learning_rate=0.01"),
    *("evaluation.max_examples=32", "evaluation.max_new_tokens=8"),
    *("gate.metric=loss", "gate.min_gain=0", "gate.max_forgetting=10"),
]
"""The recipe's settings over the quickstart's: little of everything, and a gate that so short a training passes."""


@pytest.fixture(scope="module")
def on_this_machine(stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """The summary of the run by `loraline run`, with a bucket and a registered model of its own."""
    folder = tmp_path_factory.mktemp("machine")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MLFLOW_", "LORALINE_"))}
    command = [str(LORALINE), "run", "quickstart", *SETTINGS, "registry.bucket=machine", "registry.model_name=machine"]
    done = subprocess.run(command, cwd=folder, env={**clean, **stores}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Summary.load(folder / "runs/latest")


@dataclass(frozen=True)
class ContainerRun:
    """A run in the images."""

    summary: Summary
    images: dict[str, str]
    """Step -> the image that it ran in."""


@pytest.fixture(scope="module")
def in_containers(
    docker: Engine, images: dict[str, str], stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> ContainerRun:
    """The run in the images."""
    folder = tmp_path_factory.mktemp("containers")
    for part in (folder, *folder.parents):  # pytest's folders are its user's alone
        if part.stat().st_uid == os.getuid() and part.is_relative_to(tmp_path_factory.getbasetemp().parent):
            part.chmod(0o711)
    root = folder / "artifacts"
    root.mkdir()
    root.chmod(0o777)
    place = ["registry.bucket=containers", "registry.model_name=containers"]
    recipe = load_recipe("quickstart", [*SETTINGS, *place], environment={})
    job = {"pipeline_root": str(root), "parameters": recipe.parameters()}
    (folder / "job.json").write_text(json.dumps(job))
    names = {"LORALINE_LIGHT_IMAGE": images["light"], "LORALINE_GPU_IMAGE": images["gpu"]}
    run = {"LORALINE_RUN_ID": "in-containers", "LORALINE_EVENTS": "1"}
    done = subprocess.run(
        [sys.executable, "-u", "-m", "tests.images.pipeline_in_containers", str(folder / "job.json")],
        cwd=ROOT,
        env={**docker.environment, **stores, **names, **run},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    events = [json.loads(line.split(EVENT_MARK, 1)[1]) for line in done.stdout.splitlines() if EVENT_MARK in line]
    steps = [
        LocalStep(one["name"], one["state"], one["seconds"], outputs=one["outputs"])
        for one in events
        if one["kind"] == "end"
    ]
    starts = [one["name"] for one in events if one["kind"] == "start"]
    ran_in = dict(zip(starts, (one["image"] for one in events if one["kind"] == "image"), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", stores["MLFLOW_TRACKING_URI"])
        return ContainerRun(write_summary(folder, steps), ran_in)


def test_each_step_runs_in_its_own_image(in_containers: ContainerRun, images: dict[str, str]) -> None:
    component = {step: "evaluate_model" if step.startswith("evaluate ") else step for step in in_containers.images}
    assert {"resolve_recipe", "load_model", "train_lora", "evaluate tuned", "gate"} <= set(component)
    for step, image in in_containers.images.items():
        needs_gpu = STEP_NEEDS[component[step].replace("_", "-")].gpu
        assert image == images["gpu" if needs_gpu else "light"], step


def test_the_numbers_are_those_of_this_machine(in_containers: ContainerRun, on_this_machine: Summary) -> None:
    ours = in_containers.summary
    assert ours.verdict == "promote"
    assert (ours.base, ours.tuned) == (on_this_machine.base, on_this_machine.tuned)
    assert ours.training.final_loss == on_this_machine.training.final_loss
    assert ours.digests.dataset == on_this_machine.digests.dataset
    assert ours.digests.base == on_this_machine.digests.base
    print(json.dumps({"in containers": ours.seconds, "here": on_this_machine.seconds}))


def test_the_model_is_registered_and_stored(
    in_containers: ContainerRun, stores: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    for name, value in stores.items():
        monkeypatch.setenv(name, value)
    registered = in_containers.summary.model_version
    assert registered is not None
    version = MlflowClient().get_model_version_by_alias(registered.model_name, registered.alias)
    assert str(version.version) == registered.version
    assert storage.list_objects(registered.url)
