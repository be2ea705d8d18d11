"""Training on several nodes of a cluster: create a TrainJob, wait for it, and download the adapter.

The job's name is a digest of what the adapter depends on. So a retried step waits for the job that exists already, if
the attempt before was killed and could not delete it; and where the adapter is uploaded already, no job is needed.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from loraline import progress, storage
from loraline.artifacts.dataset_files import EVAL_ROWS, TRAIN_ROWS
from loraline.data.rows import read_rows
from loraline.errors import ClusterAwayError, ConfigurationError, StorageError, TrainingError
from loraline.identity.digests import digest_folder
from loraline.training.checkpoint import run_key
from loraline.training.multinode.folder_transfer import download_folder, is_uploaded, upload_folder
from loraline.training.multinode.kubernetes_api import KubernetesClient
from loraline.training.multinode.trainjob import (
    EXIT_NOT_RETRYABLE,
    RUN_LABEL,
    KubernetesObject,
    NodeJob,
    run_label,
    trainjob_manifest,
)
from loraline.training.worker_processes import WorkerJob

_POLL_SECONDS = 5.0
_LOG_LINES = 20  # of a failed node, in the error message


class _Status(NamedTuple):
    """Status of the job: whether the adapter is uploaded, and a message about its progress."""

    done: bool
    message: str


def train_on_nodes(job: WorkerJob, poll_seconds: float = _POLL_SECONDS) -> None:
    """Train in a TrainJob, and write its results into the job's output folder.

    Where this process is terminated it deletes the TrainJob, so that its GPUs are free; the next attempt creates
    another one, which resumes from the last checkpoint.

    Raises:
        ConfigurationError: checkpoints are not in an object store, or the cluster is not set up for TrainJobs.
        TrainingError: a node failed; with the last lines of the log of the node that caused it.
        StorageError: the object store cannot be reached, or refuses a request.
        ClusterError: the Kubernetes API refuses a request.
    """
    if not job.checkpoints.startswith("s3://"):
        raise ConfigurationError(
            f"training.nodes={job.config.nodes} needs an object store between the step and the nodes, and checkpoints "
            f"are stored at {job.checkpoints!r}"
        )
    rows = [row for name in (TRAIN_ROWS, EVAL_ROWS) for row in read_rows(job.dataset / name)]
    key = run_key(job.config, job.model, rows)
    result = f"{job.checkpoints}/result-{key}"
    if not storage.when_it_answers(lambda: is_uploaded(result)):
        cluster = KubernetesClient()
        manifest = trainjob_manifest(f"loraline-{key[:20]}", cluster.own_pod(), _upload_inputs(job, result))
        _run_trainjob(cluster, manifest, lambda: is_uploaded(result), poll_seconds)
    download_folder(result, job.output)


def _upload_inputs(job: WorkerJob, result: str) -> NodeJob:
    """Upload model and dataset, once for all jobs that read them; return the arguments of the nodes."""
    urls = {}
    for name, folder in (("model", job.model), ("dataset", job.dataset)):
        urls[name] = f"{job.checkpoints}/inputs-{digest_folder(folder)}"
        upload_folder(folder, urls[name])
    return NodeJob(config=job.config, result=result, checkpoints=job.checkpoints, **urls)


def _run_trainjob(
    cluster: KubernetesClient, manifest: KubernetesObject, is_done: Callable[[], bool], poll_seconds: float
) -> None:
    """Create the job, or find the one that exists, and wait until it is done."""
    name, nodes = manifest["metadata"]["name"], manifest["spec"]["trainer"]["numNodes"]
    existing = cluster.find(name)
    if existing and _condition(existing, "Failed"):
        cluster.delete(name)  # of an earlier attempt
        existing = None
    message = f"waiting for TrainJob {name}, which exists" if existing else f"TrainJob {name} trains on {nodes} nodes"
    progress.note(message)
    try:
        while not (status := _poll(cluster, manifest, is_done)).done:
            if status.message and status.message != message:
                message = status.message
                progress.note(message)
            time.sleep(poll_seconds)
        _delete(cluster, name)
    except (SystemExit, KeyboardInterrupt):
        _delete(cluster, name, of_run=run_label())
        raise


def _poll(cluster: KubernetesClient, manifest: KubernetesObject, is_done: Callable[[], bool]) -> _Status:
    """Get the job's status; create it where there is none. A store or server that cannot be reached is retried."""
    name = manifest["metadata"]["name"]
    try:
        job = cluster.find(name)
        if is_done():
            return _Status(True, "")
        if job is None:
            cluster.create(manifest)
        elif job["metadata"].get("deletionTimestamp"):
            return _Status(False, f"waiting for the deletion of an earlier TrainJob {name}")
        elif failed := _condition(job, "Failed"):
            raise TrainingError(f"TrainJob {name} failed: {failed} {_failure_log(cluster, name)}")
        elif _condition(job, "Complete"):
            raise TrainingError(f"TrainJob {name} is complete, but uploaded no adapter; delete it and start again")
        else:
            lines = [line for pod in cluster.pods(name, first=True) for line in cluster.log(pod, 1)]
            return _Status(False, " ".join(lines))
    except (ClusterAwayError, StorageError) as error:
        return _Status(False, f"the nodes keep training, but their status is not known: {error}")
    return _Status(False, "")


def _condition(job: KubernetesObject, kind: str) -> str:
    """Reason and message of a condition of the job, if it is true; else empty."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] == kind and condition["status"] == "True":
            return f"{condition['reason']}: {condition['message']}"
    return ""


def _failure_log(cluster: KubernetesClient, name: str) -> str:
    """The end of the log of a failed node, if possible of one with an error of its own and not a lost peer."""
    failed = [(pod, ended) for pod in cluster.pods(name) if (ended := _terminated(pod)) and ended["exitCode"]]
    for pod, ended in sorted(failed, key=lambda one: one[1]["exitCode"] != EXIT_NOT_RETRYABLE):
        reason = f"{ended.get('reason', 'Error')}, exit status {ended['exitCode']}"
        lines = "\n".join(f"    {line}" for line in cluster.log(pod, _LOG_LINES))
        return f"Last log lines of pod {pod['metadata']['name']} ({reason}):\n{lines}"
    return "None of its pods exists any more, so that the cause is not known."


def _terminated(pod: KubernetesObject) -> KubernetesObject | None:
    states = pod.get("status", {}).get("containerStatuses", [])
    return next((state["state"]["terminated"] for state in states if state["state"].get("terminated")), None)


def _delete(cluster: KubernetesClient, name: str, of_run: str | None = None) -> None:
    """Delete the job. Where a run is given, only if that run created it: another one may still wait for it."""
    try:
        job = cluster.find(name)
        if job and of_run in (None, job["metadata"].get("labels", {}).get(RUN_LABEL)):
            cluster.delete(name)
    except ClusterAwayError as error:
        progress.note(f"TrainJob {name} is not deleted, because {error}; run `kubectl delete trainjob {name}`")
