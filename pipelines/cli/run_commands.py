"""Commands that run a pipeline on this machine, and show its runs: `run`, `retrain`, `ui`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loraline.evaluation.config import check_harness
from loraline.recipe_file import load_recipe
from pipelines.cli.exits import exit_on_error
from pipelines.cli.options import Overrides, RecipeArgument
from pipelines.local.services import HOME, RUNS, configure

app = typer.Typer()


@app.command()
def run(recipe: RecipeArgument = "quickstart", overrides: Overrides = None) -> None:
    """Run the whole pipeline on this machine, through KFP's local runner.

    Steps whose inputs and code have not changed are taken from the cache. A run that was stopped resumes when the same
    command is given again. The results are in `runs/latest`: report.html for people, summary.json for programs.
    """
    with exit_on_error():
        _run("finetune", recipe, overrides or [], Path(recipe).stem)


@app.command()
def retrain(recipe: RecipeArgument = "quickstart", overrides: Overrides = None) -> None:
    """Run the pipeline again if the recipe, its data or its base model changed since the champion was trained.

    If nothing changed, it says so within seconds and runs no other step.
    """
    with exit_on_error():
        _run("retrain", recipe, overrides or [], f"{Path(recipe).stem}-retrain")


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000) -> None:
    """Open MLflow's pages on this machine: runs, curves and the model registry."""
    configure(HOME)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("http"):
        typer.echo(f"runs are tracked at {uri}: open it in a browser")
        return
    from loraline.tracking.database import make_database

    make_database(uri)
    typer.echo(f"http://127.0.0.1:{port}  (Ctrl-C ends it)")
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    # Without job execution it starts in 10 s with 0.5 GB, instead of a minute with 2 GB.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    subprocess.run([*server, "--host", "127.0.0.1", "--port", str(port)], env=environment, check=False)


def _run(pipeline: str, recipe: str, overrides: list[str], name: str) -> None:
    """Run a pipeline on this machine and show its steps, and its result if it got as far as a verdict."""
    from pipelines.local.console import ConsoleWatcher, show_summary
    from pipelines.local.run import new_run_folder, run_pipeline
    from pipelines.local.summary import write_summary

    console = Console()
    checked = load_recipe(recipe, overrides)
    check_harness(checked.evaluation)
    configure(HOME)
    folder = new_run_folder(RUNS, name)
    console.print(f"[bold]{name}[/bold]  {folder}\n", highlight=False)
    with ConsoleWatcher(console) as watcher:
        steps = run_pipeline(checked.parameters(), folder, HOME, watcher, pipeline)
    if any(step.name == "gate" for step in steps):
        show_summary(console, write_summary(folder, steps))
