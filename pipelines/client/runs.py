"""Start, find and list runs."""

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from loraline.errors import ConfigurationError
from pipelines.client.connection import Cluster, equals, listed
from pipelines.client.spec import pipeline_spec
from pipelines.client.upload import find_pipeline, find_version

PIPELINE = "loraline-finetune"
EXPERIMENT = "loraline"
"""KFP experiment of the runs."""
_NEWEST_FIRST = "created_at desc"
_LOOK_BACK = 200  # runs that are searched for an abbreviated id


@dataclass(frozen=True)
class PipelineVersion:
    """A version of a pipeline on the server."""

    pipeline_id: str
    version_id: str
    name: str
    spec: dict[str, Any]
    """The compiled pipeline."""


def choose_version(cluster: Cluster, pipeline: str = PIPELINE, name: str | None = None) -> PipelineVersion:
    """The version with a name, or the latest.

    Raises:
        ConfigurationError: no such pipeline or version is on the server.
    """
    pipeline_id = find_pipeline(cluster, pipeline)
    if pipeline_id is None:
        raise ConfigurationError(f"pipeline {pipeline!r} is not on the server: upload it with `loraline upload`")
    found = find_version(cluster, pipeline_id, name)
    if found is None:
        latest = cluster.client.list_pipeline_versions(pipeline_id, page_size=5, sort_by=_NEWEST_FIRST)
        names = ", ".join(one.display_name for one in latest.pipeline_versions or []) or "none"
        raise ConfigurationError(f"{pipeline} has no version {name or 'yet'!r}. The latest are: {names}")
    whole = cluster.client.get_pipeline_version(
        pipeline_id, found.pipeline_version_id
    )  # a listing may leave out the spec
    return PipelineVersion(pipeline_id, whole.pipeline_version_id, whole.display_name, pipeline_spec(whole))


def submit(
    cluster: Cluster,
    version: PipelineVersion,
    arguments: Mapping[str, Any],
    name: str,
    experiment: str = EXPERIMENT,
    service_account: str | None = None,
) -> Any:
    """Start a run of a version; returns KFP's V2beta1Run. The experiment is created if it does not exist."""
    with contextlib.redirect_stdout(io.StringIO()):  # the client prints its own links
        return cluster.client.run_pipeline(
            experiment_id=make_experiment(cluster, experiment),
            job_name=name,
            params=dict(arguments),
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            service_account=service_account,
        )


def make_experiment(cluster: Cluster, name: str) -> str:
    """The id of the experiment with a name, created if it does not exist."""
    with contextlib.redirect_stdout(io.StringIO()):
        return str(cluster.client.create_experiment(name, namespace=cluster.namespace).experiment_id)


def find_experiment(cluster: Cluster, name: str) -> str | None:
    """The id of the experiment with a name, if there is one."""
    call = cluster.client.list_experiments
    found = listed(call, "experiments", namespace=cluster.namespace, filter=equals("display_name", name))
    return next((one.experiment_id for one in found), None)


def list_runs(cluster: Cluster, experiment: str | None = EXPERIMENT, limit: int = 20) -> list[Any]:
    """The newest runs (KFP's V2beta1Run), newest first, of an experiment or (None) of the whole namespace."""
    where: dict[str, Any] = {"namespace": cluster.namespace}
    if experiment is not None:
        experiment_id = find_experiment(cluster, experiment)
        if experiment_id is None:
            return []
        where = {"experiment_id": experiment_id}
    return list(islice(listed(cluster.client.list_runs, "runs", sort_by=_NEWEST_FIRST, **where), limit))


def find_run(cluster: Cluster, wanted: str, experiment: str = EXPERIMENT) -> Any:
    """A run (KFP's V2beta1Run, with its steps) by its id, by a prefix of its id, or an experiment's "latest".

    Raises:
        ConfigurationError: no run matches, or more than one.
    """
    if len(wanted) == 36:  # a whole id
        return cluster.client.get_run(wanted)
    if wanted == "latest":
        found = list_runs(cluster, experiment, limit=1)
    else:
        found = [run for run in list_runs(cluster, None, _LOOK_BACK) if run.run_id.startswith(wanted)]
    if len(found) != 1:
        matches = "no run" if not found else f"{len(found)} runs"
        raise ConfigurationError(f"{wanted!r} matches {matches}: give an id from `loraline runs`, or 'latest'")
    return cluster.client.get_run(found[0].run_id)


def run_spec(cluster: Cluster, run: Any) -> dict[str, Any]:
    """The compiled pipeline of a run."""
    reference = run.pipeline_version_reference
    if run.pipeline_spec or reference is None or not reference.pipeline_version_id:
        return pipeline_spec(run)
    return pipeline_spec(cluster.client.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id))


def run_namespace(cluster: Cluster, run: Any) -> str:
    """The Kubernetes namespace in which a run's pods are."""
    experiment = cluster.client.get_experiment(experiment_id=run.experiment_id)
    return experiment.namespace or cluster.settings.namespace or "kubeflow"
