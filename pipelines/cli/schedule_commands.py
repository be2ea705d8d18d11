"""The command line's `schedule` group: recurring runs."""

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
from pipelines.cli.exits import errors_told
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
from pipelines.client.connection import Cluster
from pipelines.client.cron import TIME_ZONE, Cron, parse_cron
from pipelines.client.runs import EXPERIMENT, PIPELINE, choose_version
from pipelines.client.schedule import (
    create_schedule,
    list_schedules,
    pause_schedule,
    remove_schedule,
    resume_schedule,
    version_of,
)
from pipelines.client.spec import arguments

_ZONE_WORDS = f"{TIME_ZONE}, unless the installation sets cronScheduleTimezone (its API does not tell)"

ScheduleArgument = Annotated[str, typer.Argument(help="A schedule's name, or its id's first letters.")]

schedule = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Recurring runs: make, list, pause, resume and remove them.

    One run at a time; times that were missed (a pause, an outage) are not made up for.
    """,
)


@schedule.command()
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
            help="Always run this version; not given: each run takes the latest of its time.", show_default=False
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
    """Run a recipe again and again.

    `loraline schedule create nightly my.yaml --cron '0 30 2 * * *'` runs every day at 02:30 UTC.

    KFP's cron has **six** fields, seconds first. It would take a common one of five without a word and misread it,
    so that is refused. The settings are fixed when the schedule is made.
    """
    console = Console()
    with errors_told():
        when = parse_cron(cron)
        settings = load_recipe(recipe, overrides or []).parameters()
        cluster = connected(endpoint, namespace, token_file)
        version = choose_version(cluster, pipeline, pin)
        values = arguments(version.spec, settings, parameters or [], version.name)
        made = create_schedule(cluster, name, when, version, values, pin is not None, experiment, service_account)
        which = f"pinned to version {version.name}" if pin else f"the latest version (now {version.name})"
        console.print(f"[green]scheduled[/green]  {escape(name)}  {escape(which)}", highlight=False)
        console.print(f"cron {when.text}  in {_ZONE_WORDS}", highlight=False, soft_wrap=True)
        console.print(f"next: {', '.join(_next(when, 3))}", highlight=False, soft_wrap=True)
        link = cluster.link(f"recurringrun/details/{made.recurring_run_id}")
        console.print(link, markup=False, highlight=False, soft_wrap=True)


@schedule.command("list")
def list_command(
    experiment: Experiment = EXPERIMENT,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """List the schedules, with the next time of each."""
    console = Console()
    with errors_told():
        cluster = connected(endpoint, namespace, token_file)
        found = list_schedules(cluster, experiment)
        if not found:
            console.print(f"no schedules in experiment {experiment!r}")
            return
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for column in ("name", "cron", "state", "version", f"next ({TIME_ZONE})", "id"):
            table.add_column(column, no_wrap=column != "name")
        for one in found:
            paused = one.status == "DISABLED"
            state = "[yellow]paused[/yellow]" if paused else "[green]on[/green]"
            cron = one.trigger.cron_schedule.cron if one.trigger and one.trigger.cron_schedule else ""
            version = escape(version_of(cluster, one))
            soon = "" if paused else _next_or_nothing(cron)
            table.add_row(escape(one.display_name), cron, state, version, soon, one.recurring_run_id[:8])
        console.print(table)
        console.print(f"times in {_ZONE_WORDS}", highlight=False, soft_wrap=True)


def _changing(change: Callable[[Cluster, str, str], None], told: str) -> Callable[..., None]:
    """A command that changes one schedule, and says so."""

    def command(
        name: ScheduleArgument,
        experiment: Experiment = EXPERIMENT,
        endpoint: Endpoint = None,
        namespace: Namespace = None,
        token_file: TokenFile = None,
    ) -> None:
        with errors_told():
            change(connected(endpoint, namespace, token_file), name, experiment)
            typer.echo(told.format(name=name))

    return command


for _name, _change, _told, _help in (
    (
        "pause",
        pause_schedule,
        "paused {name}: `loraline schedule resume {name}` goes on",
        "Start no more runs until it is resumed. A run that has started goes on.",
    ),
    ("resume", resume_schedule, "resumed {name}", "Start runs again, from the next time on."),
    ("remove", remove_schedule, "removed {name}", "Forget a schedule. Runs that it has started stay."),
):
    schedule.command(_name, help=_help)(_changing(_change, _told))


def _next(cron: Cron, count: int) -> list[str]:
    return [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in islice(cron.after(datetime.now(UTC)), count)]


def _next_or_nothing(cron: str) -> str:
    """The next time of a schedule that others may have made, in another form than Loraline's."""
    try:
        return _next(parse_cron(cron), 1)[0]
    except ConfigurationError:
        return "?"
