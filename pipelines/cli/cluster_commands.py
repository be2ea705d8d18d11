"""Commands for a cluster: `upload`, `submit`, `runs`, `logs`, `stop`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from loraline.errors import LoralineError
from loraline.recipe import Recipe
from loraline.recipe_file import load_recipe
from pipelines.cli.display import colored, follow_to_exit, print_link, print_runs, print_step
from pipelines.cli.exits import exit_on_error
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
from pipelines.client.follow import FINAL, steps_of
from pipelines.client.logs import find_step, kubectl_commands, show_log
from pipelines.client.runs import EXPERIMENT, PIPELINE, choose_version, find_run, list_runs, run_namespace, run_spec
from pipelines.client.runs import submit as start_run
from pipelines.client.spec import arguments, step_labels
from pipelines.client.upload import code_revision, version_name
from pipelines.client.upload import upload as upload_package
from pipelines.compile import compile_pipeline

_PACKAGE = Path("build/finetune.yaml")

app = typer.Typer()


@app.command()
def upload(
    package: Annotated[
        Path | None, typer.Argument(help="A compiled pipeline. Default: compile the fine-tuning pipeline first.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Name of the version. Default: the code's git revision.", show_default=False)
    ] = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """Compile the pipeline and upload it to Kubeflow Pipelines, as a version named after the git revision.

    The pipeline is created if the server does not have it. Uploading the same code again changes nothing. A version
    with uncommitted changes is marked as such in its name.

    `export KFP_ENDPOINT=http://localhost:8080`, then `loraline upload`
    """
    console = Console()
    with exit_on_error():
        package = package or compile_pipeline(_PACKAGE)
        if version is None:
            revision = code_revision()
            version = version_name(package, revision)
            if revision.dirty:
                console.print(
                    "[yellow]note[/yellow]  there are uncommitted changes: the version's name is marked -dirty"
                )
        cluster = connected(endpoint, namespace, token_file)
        result = upload_package(cluster, package, version)
        word = "[green]uploaded[/green]" if result.is_new else "[cyan]already there[/cyan]"
        console.print(f"{word}  {escape(result.pipeline)}  version {escape(result.version)}", highlight=False)
        print_link(console, result.link)


@app.command()
def submit(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    version: Annotated[
        str | None, typer.Option(help="The version to run. Default: the latest on the server.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The run's name. Default: the recipe and the time.", show_default=False)
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
    nothing was started, or the server no longer answers; 130 you stopped watching, and the run continues.
    """
    console = Console()
    with exit_on_error():
        checked = load_recipe(recipe, overrides or [])
        _check_base(console, checked)
        settings = checked.parameters()
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


def _check_base(console: Console, recipe: Recipe) -> None:
    """Refuse a base that cannot be trained, merged and exported; say what this machine could not look at."""
    from loraline.feasibility import check_feasibility
    from loraline.sources.model import parse_model_source

    parse_model_source(recipe.model.source)
    try:
        feasibility = check_feasibility(recipe.model, recipe.training)
    except LoralineError as error:  # what the cluster reads need not be readable from here
        console.print(f"[yellow]note[/yellow]  the base was not looked at: {escape(str(error))}", highlight=False)
        return
    feasibility.require()
    for unchecked in feasibility.unchecked:
        console.print(f"[yellow]note[/yellow]  not looked at here: {escape(unchecked)}", highlight=False)


@app.command()
def runs(
    run: Annotated[
        str | None, typer.Argument(help="Show this run's steps: its id, a prefix of it, or 'latest'.")
    ] = None,
    watch: Annotated[bool, typer.Option("--follow", help="Watch that run to its end; exits as `submit` does.")] = False,
    limit: Annotated[int, typer.Option(help="How many runs to list.", min=1)] = 20,
    experiment: Experiment = EXPERIMENT,
    everything: Annotated[bool, typer.Option("--all", help="List the runs of all experiments.")] = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """List the runs on the cluster, newest first, or show the steps of one.

    `loraline runs`, then `loraline runs latest --follow`
    """
    console = Console()
    with exit_on_error():
        cluster = connected(endpoint, namespace, token_file)
        if run is None:
            print_runs(console, list_runs(cluster, None if everything else experiment, limit))
            return
        found = find_run(cluster, run, experiment)
        spec = run_spec(cluster, found)
        if watch:
            follow_to_exit(console, cluster, found, spec)
        console.print(f"[bold]{escape(found.display_name)}[/bold]  {colored(found.state.lower())}", highlight=False)
        for step in steps_of(found, spec):
            print_step(console, step)
        print_link(console, cluster.link(f"runs/details/{found.run_id}"))


@app.command()
def logs(
    run: RunArgument,
    step: Annotated[str, typer.Argument(help="A step's name, as `loraline runs <run>` shows it.")],
    watch: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing while the step runs.")] = False,
    command: Annotated[
        bool, typer.Option("--command", help="Print the kubectl commands instead of running them.")
    ] = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
) -> None:
    """Print the log of a step's last attempt.

    KFP's API does not serve logs, so they are read with kubectl, which must be configured for the same cluster.

    `loraline logs latest train-lora --follow`
    """
    with exit_on_error():
        cluster = connected(endpoint, namespace, token_file)
        found = find_run(cluster, run)
        name = find_step(step, step_labels(run_spec(cluster, found)))
        where = run_namespace(cluster, found)
        if command:
            typer.echo(kubectl_commands(where, found.run_id, name))
        else:
            show_log(where, found.run_id, name, watch)


@app.command()
def stop(
    run: RunArgument, endpoint: Endpoint = None, namespace: Namespace = None, token_file: TokenFile = None
) -> None:
    """Stop a run. The outputs of its finished steps stay in the cache, for the next run of the same recipe."""
    with exit_on_error():
        cluster = connected(endpoint, namespace, token_file)
        found = find_run(cluster, run)
        if found.state in FINAL:
            typer.echo(f"{found.display_name} has already ended: {found.state.lower()}")
            return
        cluster.client.terminate_run(found.run_id)
        typer.echo(f"stopping {found.display_name} ({found.run_id}); see `loraline runs {found.run_id[:8]}`")
