"""The command line: `loraline --help`."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from loraline.errors import ConfigurationError
from loraline.evaluation.config import check_harness
from loraline.recipe_file import load_recipe, shipped_recipes
from pipelines.cli.audit_commands import audit as audit_commands
from pipelines.cli.cluster_commands import app as cluster_commands
from pipelines.cli.exits import FAILED, MEANINGS, errors_told
from pipelines.cli.export_command import app as export_command
from pipelines.cli.options import Overrides, RecipeArgument
from pipelines.cli.verify_command import app as verify_command
from pipelines.compile import compile_pipelines
from pipelines.local.services import HOME, configure, services

_RUNS = Path("runs")
_LATEST_MODEL = str(_RUNS / "latest" / "merged")
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # warns at its import of kernels that nobody needs here

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=f"""Fine-tune language models with LoRA and QLoRA, as one Kubeflow pipeline that also runs on this machine.

    **Start here:** `loraline run quickstart` trains, evaluates, merges and registers a model in minutes:
    no cluster, GPU or account.

    **Then yours:** `loraline run quickstart data.source=my.jsonl`, or write a recipe file and run that
    (`loraline validate quickstart` prints one to start from).

    Every setting of a recipe can be set on the command line (`training.learning_rate=1e-4`) and in the environment
    (`LORALINE_TRAINING__LEARNING_RATE=1e-4`). Where things go: `runs/` for people, `.loraline/` for the rest.

    {MEANINGS}
    """,
)


@app.command()
def run(recipe: RecipeArgument = "quickstart", overrides: Overrides = None) -> None:
    """Run the whole pipeline on this machine, through KFP's own local runner.

    Steps whose inputs and code have not changed are taken from the cache. A stopped run goes on from where
    it was when the same command is given again. The outcome is in `runs/latest`: report.html to look at,
    summary.json for programs.
    """
    with errors_told():
        _run("finetune", recipe, overrides or [], Path(recipe).stem)


@app.command()
def retrain(recipe: RecipeArgument = "quickstart", overrides: Overrides = None) -> None:
    """Run the pipeline again if the recipe, its data or its base model changed since the champion was made.

    Nothing new: it says so within seconds, and runs nothing else.
    """
    with errors_told():
        _run("retrain", recipe, overrides or [], f"{Path(recipe).stem}-retrain")


def _run(pipeline: str, recipe: str, overrides: list[str], name: str) -> None:
    """Run a pipeline here and show its steps; and its outcome, if it got as far as a verdict."""
    from pipelines.local.console import ConsoleWatcher, show_outcome
    from pipelines.local.run import new_run_folder, run_pipeline
    from pipelines.local.summary import write_summary

    console = Console()
    checked = load_recipe(recipe, overrides)
    check_harness(checked.evaluation)
    configure(HOME)
    folder = new_run_folder(_RUNS, name)
    console.print(f"[bold]{name}[/bold]  {folder}\n", highlight=False)
    with ConsoleWatcher(console) as watcher:
        steps = run_pipeline(checked.parameters(), folder, HOME, watcher, pipeline)
    if any(step.name == "gate" for step in steps):
        show_outcome(console, write_summary(folder, steps))


@app.command("compile")
def compile_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the packages.")] = Path("build"),
) -> None:
    """Compile the pipelines into the packages that a KFP server takes: finetune, retrain and promote."""
    with errors_told():
        for package in compile_pipelines(output):
            typer.echo(f"wrote {package}")


@app.command()
def validate(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Check a recipe and print it whole, defaults included; say everything that is wrong at once."""
    import yaml

    with errors_told():
        checked = load_recipe(recipe, overrides or [])
        typer.echo(yaml.safe_dump(checked.model_dump(mode="json"), sort_keys=False).rstrip())


@app.command()
def recipes() -> None:
    """List the recipes that come with Loraline."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("recipe", "model", "data", "quantization"):
        table.add_column(column)
    with errors_told():
        for name in shipped_recipes():
            one = load_recipe(name, environment={})
            table.add_row(name, one.model.source, one.data.source, one.model.quantization)
    Console().print(table)


@app.command()
def plan(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    accelerator: Annotated[
        str | None, typer.Option(help="A GPU that need not be here, such as H200, A100-80GB, L4 or T4.")
    ] = None,
) -> None:
    """Say, before anything is loaded, what a recipe needs of memory, whether it fits, and what to change when not.

    Reads the model's configuration only. Exits with 1 where the recipe does not fit.
    """
    from loraline.models.memory import plan as make_plan
    from pipelines.local.console import show_plan

    with errors_told():
        checked = load_recipe(recipe, overrides or [])
        with services(HOME):
            found = make_plan(checked.model, checked.footprint(), accelerator)
        show_plan(Console(), found)
    raise typer.Exit(0 if found.fits else FAILED)


@app.command()
def infer(
    prompt: Annotated[str, typer.Argument(help="What to ask. `-` reads it from standard input.")],
    model: Annotated[
        str, typer.Option(help="A folder, s3://bucket/prefix, a Hub id, or models:/name@alias.")
    ] = _LATEST_MODEL,
    system: Annotated[str, typer.Option(help="A system message before the prompt.")] = "",
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: the same answer each time.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest tokens of this probability in all.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    trust_remote_code: Annotated[bool, typer.Option(help="Run Python code that comes with the model.")] = False,
    policy: Annotated[
        str | None,
        typer.Option(
            help="A safety policy: a shipped one's name, a YAML file, s3://..., or none. Not given: the model's own.",
            show_default=False,
        ),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(
            help="The audit trail. Not given: .loraline/audit.jsonl where there is a policy, else none.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Ask a model, by the same chat template that it was trained and evaluated with; the answer streams.

    Without --model it is the tuned model of the latest run.

    Under a safety policy, which a model that was trained with one brings along, the prompt is checked before the
    model is asked, and the answer is shown once it is whole and checked. Both go into the audit trail.
    """
    text = sys.stdin.read() if prompt == "-" else prompt
    messages = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": text}]
    with errors_told():
        if model == _LATEST_MODEL and not Path(model).exists():
            raise ConfigurationError(f"no model at {model}: `loraline run` makes one, or name one with --model")
        from pipelines.cli.inference import conversation

        with conversation(model, policy, audit, trust_remote_code) as (talk, guard):
            pieces = talk.answer(
                messages, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
            )
            for piece in pieces:
                typer.echo(piece, nl=False)
            typer.echo()
            if not guard.decision.allowed:
                what = "answer may not be shown" if guard.asked else "model was not asked"
                note = f"[yellow]policy[/yellow]  the {what}: {guard.decision.category}"
                Console(stderr=True, highlight=False).print(note)


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="Name of the registered model.")],
    version: Annotated[str | None, typer.Option(help="The version to promote. Default: the challenger.")] = None,
) -> None:
    """Make the challenger the champion: only with its verdict and evidence whole. The champion before is remembered."""
    from loraline.registry.promote import promote as move

    with errors_told(), services(HOME):
        moved = move(model, version)
        typer.echo(moved.source)


@app.command()
def rollback(model: Annotated[str, typer.Argument(help="Name of the registered model.")]) -> None:
    """Make the champion before this one the champion again."""
    from loraline.registry.promote import rollback as move

    with errors_told(), services(HOME):
        moved = move(model)
        typer.echo(moved.source)


@app.command()
def clean(
    keep: Annotated[
        int, typer.Option(help="Versions without an alias that stay, the newest of each model.", min=0)
    ] = 3,
    bucket: Annotated[str, typer.Option(help="The recipes' registry.bucket.")] = "loraline",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
) -> None:
    """Remove candidates that never became champion, and checkpoints and uploads that nobody came back to for a week.

    What an alias points at stays, and while a run is running nothing goes.
    """
    from loraline.registry.clean import clean as remove
    from loraline.units import format_bytes

    with errors_told(), services(HOME):
        done = remove(bucket, keep, dry_run)
        for what in [*done.versions, *done.checkpoints, *done.uploads]:
            typer.echo(f"{'would remove' if dry_run else 'removed'}  {what}")
        if not done.running:
            typer.echo(f"{format_bytes(done.size)} {'would be' if dry_run else 'were'} freed")


app.add_typer(export_command)
app.add_typer(verify_command)
# upload, submit, runs, logs, stop, schedule: what talks to a cluster.
app.add_typer(cluster_commands)
app.add_typer(audit_commands, name="audit")


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port of the page on this machine.")] = 5000) -> None:
    """Open MLflow's pages on this machine: runs, curves and the model registry."""
    configure(HOME)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("http"):
        typer.echo(f"runs are tracked at {uri}: open it in a browser")
        return
    typer.echo(f"http://127.0.0.1:{port}  (Ctrl-C ends it)")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            uri,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ],
        env={
            **os.environ,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },  # starts in 10 s and 0.5 GB, not a minute and 2 GB
        check=False,
    )


if __name__ == "__main__":
    app()
