"""Recurring runs: made, listed, paused, resumed and removed."""

from collections.abc import Mapping
from typing import Any

from loraline.errors import ConfigurationError
from pipelines.client.connection import Cluster, listed
from pipelines.client.cron import TIME_ZONE, Cron
from pipelines.client.runs import EXPERIMENT, Version, find_experiment, make_experiment


def create_schedule(
    cluster: Cluster,
    name: str,
    cron: Cron,
    version: Version,
    arguments: Mapping[str, Any],
    pinned: bool,
    experiment: str = EXPERIMENT,
    service_account: str | None = None,
) -> Any:
    """Make a recurring run (KFP's V2beta1RecurringRun): one at a time, and missed times are not made up for.

    Args:
        cluster: where.
        name: for people; KFP would allow two of one name, Loraline does not.
        cron: when.
        version: what runs.
        arguments: the pipeline's parameters, fixed for as long as the schedule lives.
        pinned: run this version always; otherwise each run takes the version that is the latest by then.
        experiment: KFP's folder for the runs.
        service_account: whose rights the steps have; None leaves it to the installation.

    Raises:
        ConfigurationError: a schedule of that name is there.
    """
    import kfp_server_api as api

    if any(one.display_name == name for one in list_schedules(cluster, experiment)):
        raise ConfigurationError(
            f"schedule {name!r} is there already. KFP cannot change one: `loraline schedule remove {name}` first"
        )
    which = f"version {version.name}" if pinned else "the latest version"
    body = api.V2beta1RecurringRun(
        display_name=name,
        description=f"Runs {which}. Cron in {TIME_ZONE} unless the installation sets cronScheduleTimezone.",
        experiment_id=make_experiment(cluster, experiment),
        # A reference without a version follows the latest; `kfp.Client.create_recurring_run` cannot say that.
        pipeline_version_reference=api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id if pinned else None
        ),
        runtime_config=api.V2beta1RuntimeConfig(parameters=dict(arguments)),
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=cron.text)),
        mode=api.RecurringRunMode.ENABLE,
        max_concurrency="1",  # 64-bit integers are text in the API
        no_catchup=True,
        service_account=service_account,
    )
    return cluster.client.recurring_runs.recurring_run_service_create_recurring_run(recurring_run=body)


def list_schedules(cluster: Cluster, experiment: str = EXPERIMENT) -> list[Any]:
    """The recurring runs (KFP's V2beta1RecurringRun) of an experiment, by name."""
    experiment_id = find_experiment(cluster, experiment)
    if experiment_id is None:
        return []
    found = listed(cluster.client.list_recurring_runs, "recurring_runs", experiment_id=experiment_id)
    return sorted(found, key=lambda one: str(one.display_name))


def find_schedule(cluster: Cluster, said: str, experiment: str = EXPERIMENT) -> Any:
    """The recurring run with a name, or with an id that starts so (eight letters at least).

    Raises:
        ConfigurationError: there is none, or several have that name.
    """
    schedules = list_schedules(cluster, experiment)
    found = [one for one in schedules if said == one.display_name]
    if not found and len(said) >= 8:
        found = [one for one in schedules if one.recurring_run_id.startswith(said)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigurationError(f"{len(found)} schedules are called {said!r}: give an id of `loraline schedule list`")
    there = ", ".join(str(one.display_name) for one in schedules) or "none"
    raise ConfigurationError(f"no schedule {said!r} in experiment {experiment!r}; there are: {there}")


def pause_schedule(cluster: Cluster, said: str, experiment: str = EXPERIMENT) -> None:
    """Start no more runs until it is resumed; one that runs goes on."""
    cluster.client.disable_recurring_run(find_schedule(cluster, said, experiment).recurring_run_id)


def resume_schedule(cluster: Cluster, said: str, experiment: str = EXPERIMENT) -> None:
    """Start runs again, from the next time on."""
    cluster.client.enable_recurring_run(find_schedule(cluster, said, experiment).recurring_run_id)


def remove_schedule(cluster: Cluster, said: str, experiment: str = EXPERIMENT) -> None:
    """Forget a schedule; runs that it has started stay."""
    cluster.client.delete_recurring_run(find_schedule(cluster, said, experiment).recurring_run_id)


def version_of(cluster: Cluster, schedule: Any) -> str:
    """The name of the version that a recurring run is pinned to, or "latest"."""
    reference = schedule.pipeline_version_reference
    if reference is None:
        return "its own"  # made from a package that was never uploaded
    if not reference.pipeline_version_id:
        return "latest"
    return str(cluster.client.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id).display_name)
