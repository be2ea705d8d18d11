"""The `schedule` group: recurring runs on a cluster."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loraline.errors import ConfigurationError
from loraline.recipe_file import load_recipe
from pipelines.cli.display import print_link
from pipelines.cli.exits import exit_on_error
from pipelines.cli.options import (
    Endpoint,
    Experiment,
    Namespace,
    Overrides,
    Parameters,
    Pipeline,
    RecipeArgument,
    ServiceAccount,
    TokenFile,
    connected,
)
from pipelines.client.cron import TIME_ZONE, Cron, parse_cron
from pipelines.client.runs import EXPERIMENT, PIPELINE, choose_version
from pipelines.client.schedule import Change, change_schedule, create_schedule, list_schedules, version_of
from pipelines.client.spec import arguments

_TIME_ZONE_NOTE = f"{TIME_ZONE}, unless the installation sets cronScheduleTimezone (its API does not report it)"
_MESSAGES: dict[Change, str] = {
    "pause": "paused {name}: `loraline schedule resume {name}` starts it again",
    "resume": "resumed {name}",
    "remove": "removed {name}",
}
_HELP: dict[Change, str] = {
    "pause": "Start no runs until the schedule is resumed. A run that has started continues.",
    "resume": "Start runs again, from the next scheduled time on.",
    "remove": "Delete a schedule. Runs that it has started stay.",
}

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Recurring runs: create, list, pause, resume and remove them.

    One run at a time. Times that were missed (a pause, an outage) are not caught up.
    """,
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name of your choice, such as nightly.")],
    recipe: RecipeArgument,
    overrides: Overrides = None,
    cron: Annotated[
        str,
        typer.Option(help="When: second minute hour day month weekday. Six fields; @daily and the like work too."),
    ] = "@daily",
    pin: Annotated[
        str | None,
        typer.Option(
            help="Always run this version. Default: each run takes the latest version at its time.", show_default=False
        ),
    ] = None,
    parameters: Parameters = None,
    pipeline: Pipeline = PIPELINE,
    experiment: Experiment = EXPERIMENT,
    service_account: ServiceAccount = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """Run a recipe repeatedly.

    `loraline schedule create nightly my.yaml --cron '0 30 2 * * *'` runs every day at 02:30 UTC.

    KFP's cron has **six** fields, seconds first. KFP would accept the usual five and misread them, so Loraline refuses
    five. The settings are fixed when the schedule is created.
    """
    console = Console()
    with exit_on_error():
        when = parse_cron(cron)
        settings = load_recipe(recipe, overrides or []).parameters()
        cluster = connected(endpoint, namespace, token_file)
        version = choose_version(cluster, pipeline, pin)
        values = arguments(version.spec, settings, parameters or [], version.name)
        made = create_schedule(cluster, name, when, version, values, pin is not None, experiment, service_account)
        which = f"pinned to version {version.name}" if pin else f"the latest version (now {version.name})"
        console.print(f"[green]scheduled[/green]  {escape(name)}  {escape(which)}", highlight=False)
        console.print(f"cron {when.text}  in {_TIME_ZONE_NOTE}", highlight=False, soft_wrap=True)
        console.print(f"next: {', '.join(_next_times(when, 3))}", highlight=False, soft_wrap=True)
        print_link(console, cluster.link(f"recurringrun/details/{made.recurring_run_id}"))


@app.command("list")
def list_command(
    experiment: Experiment = EXPERIMENT,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """List the schedules, each with its next time."""
    console = Console()
    with exit_on_error():
        cluster = connected(endpoint, namespace, token_file)
        schedules = list_schedules(cluster, experiment)
        if not schedules:
            console.print(f"no schedules in experiment {experiment!r}")
            return
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for column in ("name", "cron", "state", "version", f"next ({TIME_ZONE})", "id"):
            table.add_column(column, no_wrap=column != "name")
        for schedule in schedules:
            paused = schedule.status == "DISABLED"
            state = "[yellow]paused[/yellow]" if paused else "[green]on[/green]"
            trigger = schedule.trigger
            cron = trigger.cron_schedule.cron if trigger and trigger.cron_schedule else ""
            version = escape(version_of(cluster, schedule))
            following = "" if paused else _next_time(cron)
            table.add_row(escape(schedule.display_name), cron, state, version, following, schedule.recurring_run_id[:8])
        console.print(table)
        console.print(f"times in {_TIME_ZONE_NOTE}", highlight=False, soft_wrap=True)


def _command(change: Change) -> Callable[..., None]:
    """The command that pauses, resumes or removes a schedule."""

    def command(
        name: Annotated[str, typer.Argument(help="A schedule's name, or a prefix of its id.")],
        experiment: Experiment = EXPERIMENT,
        endpoint: Endpoint = None,
        namespace: Namespace = None,
        token_file: TokenFile = None,
    ) -> None:
        with exit_on_error():
            change_schedule(connected(endpoint, namespace, token_file), name, change, experiment)
            typer.echo(_MESSAGES[change].format(name=name))

    return command


for _change, _help in _HELP.items():
    app.command(_change, help=_help)(_command(_change))


def _next_times(cron: Cron, count: int) -> list[str]:
    return [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in islice(cron.after(datetime.now(UTC)), count)]


def _next_time(cron: str) -> str:
    """The next time of a schedule, or `?` if KFP's form was used to make one that Loraline would refuse."""
    try:
        return _next_times(parse_cron(cron), 1)[0]
    except ConfigurationError:
        return "?"
