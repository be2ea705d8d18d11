"""Training on several nodes of a cluster: make a TrainJob, follow it, and bring the adapter back.

The job's name is a digest of what the adapter depends on. So a step that is started again follows the job that is
there, if its last try was killed and could not end it; and where the adapter is there already, no job is needed.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from loraline import progress
from loraline.data.rows import read_rows
from loraline.errors import ClusterAwayError, ConfigurationError, StorageError, TrainingError
from loraline.identity.digests import digest_folder
from loraline.training.checkpoint import run_key
from loraline.training.distributed import Ranks
from loraline.training.multinode.folder_transfer import fetch, is_offered, offer
from loraline.training.multinode.kubernetes_api import Kubernetes
from loraline.training.multinode.trainjob import RUN_LABEL, WILL_FAIL_AGAIN, Manifest, NodeJob, manifest, run_label
from loraline.training.torchrun import Job

_SECONDS_BETWEEN_LOOKS = 5.0
_LAST_LINES = 20


class _Look(NamedTuple):
    """How the job is: whether the adapter is there, and what is to be told."""

    done: bool
    text: str


def train_on_nodes(job: Job, seconds_between_looks: float = _SECONDS_BETWEEN_LOOKS) -> None:
    """Have a TrainJob train, and write what it leaves into the job's output folder.

    Where this process is terminated it ends the TrainJob, for whoever ends a run wants its GPUs back; the next try
    makes another, which goes on from the last checkpoint.

    Raises:
        ConfigurationError: checkpoints are not in an object store, or the cluster is not set up for TrainJobs.
        TrainingError: the nodes failed; with the last lines of the log of the one that knows why.
        StorageError: the object store is away or refuses.
        ClusterError: the Kubernetes API refuses.
    """
    if not job.checkpoints.startswith("s3://"):
        raise ConfigurationError(
            f"training.nodes={job.config.nodes} needs an object store between the step and the nodes, and checkpoints "
            f"are kept at {job.checkpoints!r}"
        )
    rows = [row for name in ("train", "eval") for row in read_rows(job.dataset / f"{name}.parquet")]
    key = run_key(job.config, job.model, rows, job.code)
    result = f"{job.checkpoints}/result-{key}"
    if not is_offered(result):
        cluster = Kubernetes()
        body = manifest(f"loraline-{key[:20]}", cluster.own_pod(), _for_nodes(job, result))
        trainer = body["spec"]["trainer"]
        Ranks(count=trainer["numNodes"] * trainer["numProcPerNode"]).check_work(job.config)
        _carry_out(cluster, body, lambda: is_offered(result), seconds_between_looks)
    fetch(result, job.output)


def _for_nodes(job: Job, result: str) -> NodeJob:
    """Put model and dataset where the nodes find them, once for all jobs that read them."""
    places = {}
    for name, folder in (("model", job.model), ("dataset", job.dataset)):
        places[name] = f"{job.checkpoints}/inputs-{digest_folder(folder)}"
        offer(folder, places[name])
    return NodeJob(config=job.config, result=result, checkpoints=job.checkpoints, code=job.code, **places)


def _carry_out(cluster: Kubernetes, body: Manifest, is_done: Callable[[], bool], seconds: float) -> None:
    """Make the job, or follow the one that is there, until it is done."""
    name, nodes = body["metadata"]["name"], body["spec"]["trainer"]["numNodes"]
    there = cluster.find(name)
    if there and _condition(there, "Failed"):
        cluster.delete(name)  # of an earlier try
        there = None
    told = f"following TrainJob {name}" if there else f"TrainJob {name} trains on {nodes} nodes"
    progress.note(told)
    try:
        while not (look := _look(cluster, body, is_done)).done:
            if look.text and look.text != told:
                told = look.text
                progress.note(told)
            time.sleep(seconds)
        _end(cluster, name)
    except (SystemExit, KeyboardInterrupt):
        _end(cluster, name, of_run=run_label())
        raise


def _look(cluster: Kubernetes, body: Manifest, is_done: Callable[[], bool]) -> _Look:
    """See how the job is; make it where there is none. A store or a server that is away is no reason to give up."""
    name = body["metadata"]["name"]
    try:
        job = cluster.find(name)
        if is_done():
            return _Look(True, "")
        if job is None:
            cluster.create(body)
        elif job["metadata"].get("deletionTimestamp"):
            return _Look(False, f"waiting for an earlier TrainJob {name} to end")
        elif failed := _condition(job, "Failed"):
            raise TrainingError(f"TrainJob {name} failed: {failed} {_last_words(cluster, name)}")
        elif _condition(job, "Complete"):
            raise TrainingError(f"TrainJob {name} is complete and has left no adapter; remove it and start again")
        else:
            return _Look(
                False, " ".join(line for pod in cluster.pods(name, first=True) for line in cluster.log(pod, 1))
            )
    except (ClusterAwayError, StorageError) as error:
        return _Look(False, f"the nodes go on, but cannot be looked after: {error}")
    return _Look(False, "")


def _condition(job: Manifest, kind: str) -> str:
    """What a condition of the job says, if it holds."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] == kind and condition["status"] == "True":
            return f"{condition['reason']}: {condition['message']}"
    return ""


def _last_words(cluster: Kubernetes, name: str) -> str:
    """The end of the log of a node that failed: of one that knows why, if there is one."""
    failed = [(pod, ended) for pod in cluster.pods(name) if (ended := _ended(pod)) and ended["exitCode"]]
    for pod, ended in sorted(failed, key=lambda one: one[1]["exitCode"] != WILL_FAIL_AGAIN):
        how = f"{ended.get('reason', 'Error')}, exit status {ended['exitCode']}"
        lines = "\n".join(f"    {line}" for line in cluster.log(pod, _LAST_LINES))
        return f"Pod {pod['metadata']['name']} ({how}) ends so:\n{lines}"
    return "No pod of it is left to say why."


def _ended(pod: Manifest) -> Manifest | None:
    states = pod.get("status", {}).get("containerStatuses", [])
    return next((state["state"]["terminated"] for state in states if state["state"].get("terminated")), None)


def _end(cluster: Kubernetes, name: str, of_run: str | None = None) -> None:
    """Remove the job, if it is of a run where one is given: the run that made it may be following it still."""
    try:
        job = cluster.find(name)
        if job and of_run in (None, job["metadata"].get("labels", {}).get(RUN_LABEL)):
            cluster.delete(name)
    except ClusterAwayError as error:
        progress.note(f"TrainJob {name} stays, because {error}; `kubectl delete trainjob {name}` removes it")
