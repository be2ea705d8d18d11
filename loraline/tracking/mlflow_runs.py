"""Which MLflow run is whose: the pipeline's run and the runs of its steps, found or made.

- KFP's MLflow plugin gives every task a run (MLFLOW_RUN_ID) below one of the pipeline's: both are adopted;
- a run in MLFLOW_RUN_ID that has no parent is adopted as the pipeline's;
- otherwise the pipeline's run is the one tagged `loraline.run_id` = LORALINE_RUN_ID in the experiment
  MLFLOW_EXPERIMENT_NAME, and each step has one below it, found again when the step is retried.
"""

import os
import uuid
from dataclasses import dataclass
from datetime import datetime

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

RUN_ID_TAG = "loraline.run_id"
STEP_TAG = "loraline.step"
DEFAULT_EXPERIMENT = "loraline"

_PARENT_TAG = "mlflow.parentRunId"
_GIVEN_RUN_ID = uuid.uuid4().hex  # of this process, where nobody has named the pipeline run


@dataclass(frozen=True)
class Place:
    """Where figures go: a run and the pipeline's run (for the pipeline's own tracker, the same)."""

    run_id: str
    parent_id: str
    ours: frozenset[str] = frozenset()
    """Those of the two that Loraline made, and so has to end."""


def find_parent(client: MlflowClient) -> Place:
    """The pipeline's run."""
    adopted = _adopted(client)
    if adopted:
        return Place(adopted.parent_id, adopted.parent_id)
    name = os.environ.get("LORALINE_RUN_ID") or _GIVEN_RUN_ID
    experiment = _experiment(client)
    run = _find_or_make(client, experiment, {RUN_ID_TAG: name, STEP_TAG: "pipeline"}, name)
    return Place(run, run, frozenset({run}))


def find_child(client: MlflowClient, name: str) -> Place:
    """The run of the step of that name, below the pipeline's."""
    adopted = _adopted(client)
    if adopted and adopted.run_id != adopted.parent_id:
        return adopted  # KFP has made a run for this very task
    place = find_parent(client)
    experiment = client.get_run(place.run_id).info.experiment_id
    run = _find_or_make(client, experiment, {_PARENT_TAG: place.run_id, STEP_TAG: name}, name)
    return Place(run, place.run_id, place.ours | {run})


def running(client: MlflowClient, since: datetime) -> list[Run]:
    """The runs of Loraline's experiment that began after a moment and have not ended."""
    found = client.get_experiment_by_name(_experiment_name())
    if found is None:
        return []
    began = int(since.timestamp() * 1000)
    wanted = f"attributes.status = 'RUNNING' and attributes.start_time > {began}"
    return list(client.search_runs([found.experiment_id], wanted))


def _adopted(client: MlflowClient) -> Place | None:
    given = os.environ.get("MLFLOW_RUN_ID")
    if not given:
        return None
    return Place(given, client.get_run(given).data.tags.get(_PARENT_TAG, given))


def _experiment(client: MlflowClient) -> str:
    """The experiment's id; it is made where it does not exist, its artifacts at LORALINE_ARTIFACTS."""
    name = _experiment_name()
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    try:
        return client.create_experiment(name, artifact_location=os.environ.get("LORALINE_ARTIFACTS") or None)
    except MlflowException:
        made_meanwhile = client.get_experiment_by_name(name)  # by a step that runs beside this one
        if made_meanwhile is None:
            raise
        return made_meanwhile.experiment_id


def _experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def _find_or_make(client: MlflowClient, experiment: str, tags: dict[str, str], name: str) -> str:
    """The id of the run with these tags, running; made where there is none, and one only where two race."""
    found = _search(client, experiment, tags)
    if not found:
        made = client.create_run(experiment, tags=tags, run_name=name)
        found = _search(client, experiment, tags) or [made]
        if found[0].info.run_id != made.info.run_id:
            client.delete_run(made.info.run_id)
    run = found[0]
    if run.info.status != "RUNNING":
        client.update_run(run.info.run_id, status="RUNNING")
    return run.info.run_id


def _search(client: MlflowClient, experiment: str, tags: dict[str, str]) -> list[Run]:
    """The runs with these tags, the first made first."""
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    return sorted(client.search_runs([experiment], wanted), key=lambda run: (run.info.start_time, run.info.run_id))
