"""The command line's part for a cluster: upload, submit, runs, logs and stop."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from loraline.recipe_file import load_recipe
from pipelines.cli.display import coloured, follow_to_exit, print_link, print_runs, print_step
from pipelines.cli.exits import errors_told
from pipelines.cli.options import (
    Endpoint,
    Experiment,
    Namespace,
    Overrides,
    Parameters,
    Pipeline,
    RecipeArgument,
    RunArgument,
    ServiceAccount,
    TokenFile,
    connected,
)
from pipelines.cli.schedule_commands import schedule
from pipelines.client.follow import FINAL, steps_of
from pipelines.client.logs import by_hand, check_step, show_log
from pipelines.client.runs import EXPERIMENT, PIPELINE, choose_version, find_run, list_runs, run_namespace, spec_of
from pipelines.client.runs import submit as start_run
from pipelines.client.spec import arguments, step_labels
from pipelines.client.upload import code_revision, version_name
from pipelines.client.upload import upload as upload_package
from pipelines.compile import compile_pipeline

_PACKAGE = Path("build/finetune.yaml")

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
app.add_typer(schedule, name="schedule")


@app.command()
def upload(
    package: Annotated[
        Path | None, typer.Argument(help="A compiled pipeline; not given: compile the fine-tuning pipeline first.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Name of the version; not given: the code's git revision.", show_default=False)
    ] = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """Compile the pipeline and upload it to Kubeflow Pipelines, as a version named after the git revision.

    The pipeline is made where it is not there yet. The same code uploaded again changes nothing. Changes that are
    not committed are marked in the version's name.

    `export KFP_ENDPOINT=http://localhost:8080`, then `loraline upload`
    """
    console = Console()
    with errors_told():
        package = package or compile_pipeline(_PACKAGE)
        if version is None:
            revision = code_revision()
            version = version_name(package, revision)
            if revision.dirty:
                console.print("[yellow]note[/yellow]  there are changes that are not committed: the version is marked")
        cluster = connected(endpoint, namespace, token_file)
        done = upload_package(cluster, package, version)
        word = "[green]uploaded[/green]" if done.is_new else "[cyan]already there[/cyan]"
        console.print(f"{word}  {escape(done.pipeline)}  version {escape(done.version)}", highlight=False)
        print_link(console, done.link)


@app.command()
def submit(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    version: Annotated[
        str | None, typer.Option(help="Run this version; not given: the latest on the server.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The run's name; not given: the recipe and the time.", show_default=False)
    ] = None,
    watch: Annotated[bool, typer.Option("--follow/--no-follow", help="Watch the run to its end.")] = True,
    parameters: Parameters = None,
    pipeline: Pipeline = PIPELINE,
    experiment: Experiment = EXPERIMENT,
    service_account: ServiceAccount = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """Start a run on the cluster with a recipe's settings, and follow it step by step.

    `loraline submit quickstart training.rank=8`

    **Exit status**: 0 the run succeeded (or was started, with --no-follow); 1 it failed or was stopped; 2 refused:
    nothing was started, or the server can no longer be asked; 130 you stopped watching, and the run goes on.
    """
    console = Console()
    with errors_told():
        settings = load_recipe(recipe, overrides or []).parameters()
        cluster = connected(endpoint, namespace, token_file)
        chosen = choose_version(cluster, pipeline, version)
        values = arguments(chosen.spec, settings, parameters or [], chosen.name)
        title = name or f"{Path(recipe).stem} {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"
        started = start_run(cluster, chosen, values, title, experiment, service_account)
        console.print(
            f"[bold]{escape(title)}[/bold]  run {started.run_id}  version {escape(chosen.name)}", highlight=False
        )
        if watch:
            follow_to_exit(console, cluster, started, chosen.spec)
        print_link(console, cluster.link(f"runs/details/{started.run_id}"))


@app.command()
def runs(
    run: Annotated[
        str | None, typer.Argument(help="Show this run's steps: its id, its first letters, or 'latest'.")
    ] = None,
    watch: Annotated[bool, typer.Option("--follow", help="Watch that run to its end; exits as `submit` does.")] = False,
    limit: Annotated[int, typer.Option(help="How many runs to list.", min=1)] = 20,
    experiment: Experiment = EXPERIMENT,
    everything: Annotated[bool, typer.Option("--all", help="The runs of all experiments.")] = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """List the runs on the cluster, newest first, or show the steps of one.

    `loraline runs`, then `loraline runs latest --follow`
    """
    console = Console()
    with errors_told():
        cluster = connected(endpoint, namespace, token_file)
        if run is None:
            print_runs(console, list_runs(cluster, None if everything else experiment, limit))
            return
        found = find_run(cluster, run, experiment)
        spec = spec_of(cluster, found)
        if watch:
            follow_to_exit(console, cluster, found, spec)
        console.print(f"[bold]{escape(found.display_name)}[/bold]  {coloured(found.state.lower())}", highlight=False)
        for step in steps_of(found, spec):
            print_step(console, step)
        print_link(console, cluster.link(f"runs/details/{found.run_id}"))


@app.command()
def logs(
    run: RunArgument,
    step: Annotated[str, typer.Argument(help="A step, as `loraline runs <run>` names it.")],
    watch: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing while the step runs.")] = False,
    command: Annotated[bool, typer.Option("--command", help="Print the kubectl commands and run nothing.")] = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """Print a step's log, of its last attempt.

    KFP's API does not hand out logs, so they are read with kubectl, which must be set up for the same cluster.

    `loraline logs latest train-lora --follow`
    """
    with errors_told():
        cluster = connected(endpoint, namespace, token_file)
        found = find_run(cluster, run)
        name = check_step(step, step_labels(spec_of(cluster, found)))
        where = run_namespace(cluster, found)
        if command:
            typer.echo(by_hand(where, found.run_id, name))
        else:
            show_log(where, found.run_id, name, watch)


@app.command()
def stop(
    run: RunArgument, endpoint: Endpoint = None, namespace: Namespace = None, token_file: TokenFile = None
) -> None:
    """Stop a run. What its finished steps made stays in the cache, for the next run of the same recipe."""
    with errors_told():
        cluster = connected(endpoint, namespace, token_file)
        found = find_run(cluster, run)
        if found.state in FINAL:
            typer.echo(f"{found.display_name} has ended already: {found.state.lower()}")
            return
        cluster.client.terminate_run(found.run_id)
        typer.echo(f"stopping {found.display_name} ({found.run_id}); see `loraline runs {found.run_id[:8]}`")
