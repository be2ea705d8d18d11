"""Create, list, pause, resume and remove recurring runs."""

from collections.abc import Mapping
from typing import Any, Literal

from loraline.errors import ConfigurationError
from pipelines.client.connection import Cluster, listed
from pipelines.client.cron import TIME_ZONE, Cron
from pipelines.client.runs import EXPERIMENT, PipelineVersion, find_experiment, make_experiment

Change = Literal["pause", "resume", "remove"]


def create_schedule(
    cluster: Cluster,
    name: str,
    cron: Cron,
    version: PipelineVersion,
    arguments: Mapping[str, Any],
    pinned: bool,
    experiment: str = EXPERIMENT,
    service_account: str | None = None,
) -> Any:
    """Create a recurring run (KFP's V2beta1RecurringRun): one run at a time, and missed times are not caught up.

    Args:
        cluster: the server.
        name: a display name; unique in Loraline, though not in KFP.
        cron: when it runs.
        version: the pipeline version to run.
        arguments: the pipeline's parameters, fixed for the life of the schedule.
        pinned: always run this version; otherwise each run takes the version that is the latest at its time.
        experiment: KFP experiment of the runs.
        service_account: Kubernetes service account of the steps; None: the installation's default.

    Raises:
        ConfigurationError: a schedule of that name exists.
    """
    import kfp_server_api as api

    if any(one.display_name == name for one in list_schedules(cluster, experiment)):
        raise ConfigurationError(
            f"schedule {name!r} exists already. KFP cannot change a schedule: `loraline schedule remove {name}` first"
        )
    which = f"version {version.name}" if pinned else "the latest version"
    body = api.V2beta1RecurringRun(
        display_name=name,
        description=f"Runs {which}. Cron in {TIME_ZONE} unless the installation sets cronScheduleTimezone.",
        experiment_id=make_experiment(cluster, experiment),
        # A reference without a version follows the latest; `kfp.Client.create_recurring_run` cannot express that.
        pipeline_version_reference=api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id if pinned else None
        ),
        runtime_config=api.V2beta1RuntimeConfig(parameters=dict(arguments)),
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=cron.text)),
        mode=api.RecurringRunMode.ENABLE,
        max_concurrency="1",  # 64-bit integers are strings in the API
        no_catchup=True,
        service_account=service_account,
    )
    return cluster.client.recurring_runs.recurring_run_service_create_recurring_run(recurring_run=body)


def list_schedules(cluster: Cluster, experiment: str = EXPERIMENT) -> list[Any]:
    """The recurring runs (KFP's V2beta1RecurringRun) of an experiment, sorted by name."""
    experiment_id = find_experiment(cluster, experiment)
    if experiment_id is None:
        return []
    found = listed(cluster.client.list_recurring_runs, "recurring_runs", experiment_id=experiment_id)
    return sorted(found, key=lambda one: str(one.display_name))


def find_schedule(cluster: Cluster, name: str, experiment: str = EXPERIMENT) -> Any:
    """The recurring run with a display name, or with a prefix of its id (at least eight characters).

    Raises:
        ConfigurationError: there is none, or several have that name.
    """
    schedules = list_schedules(cluster, experiment)
    found = [one for one in schedules if name == one.display_name]
    if not found and len(name) >= 8:
        found = [one for one in schedules if one.recurring_run_id.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigurationError(
            f"{len(found)} schedules are called {name!r}: give an id from `loraline schedule list`"
        )
    existing = ", ".join(str(one.display_name) for one in schedules) or "none"
    raise ConfigurationError(f"no schedule {name!r} in experiment {experiment!r}; there are: {existing}")


def change_schedule(cluster: Cluster, name: str, change: Change, experiment: str = EXPERIMENT) -> None:
    """Pause, resume or remove the recurring run that `find_schedule` finds. A run that has started continues.

    Raises:
        ConfigurationError: as `find_schedule`.
    """
    client = cluster.client
    calls = {
        "pause": client.disable_recurring_run,
        "resume": client.enable_recurring_run,
        "remove": client.delete_recurring_run,
    }
    calls[change](find_schedule(cluster, name, experiment).recurring_run_id)


def version_of(cluster: Cluster, schedule: Any) -> str:
    """The name of the version that a recurring run is pinned to, or "latest"."""
    reference = schedule.pipeline_version_reference
    if reference is None:
        return "its own"  # created from a package that was never uploaded
    if not reference.pipeline_version_id:
        return "latest"
    return str(cluster.client.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id).display_name)
