"""Commands on models: `promote`, `rollback`, `verify`, `export`, `clean`."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from pipelines.cli.exits import FAILED, exit_on_error
from pipelines.local.services import HOME, services

if TYPE_CHECKING:
    from loraline.registry.verify import Verification

NameArgument = Annotated[str, typer.Argument(help="Name of the registered model.")]

app = typer.Typer()


@app.command()
def promote(
    model: NameArgument,
    version: Annotated[str | None, typer.Option(help="The version to promote. Default: the challenger.")] = None,
) -> None:
    """Make the challenger the champion, if its verdict, files and evidence pass verification.

    The previous champion is remembered for `loraline rollback`.
    """
    from loraline.registry.promote import promote as move_alias

    with exit_on_error(), services(HOME):
        typer.echo(move_alias(model, version).source)


@app.command()
def rollback(model: NameArgument) -> None:
    """Make the previous champion the champion again."""
    from loraline.registry.promote import rollback as move_alias

    with exit_on_error(), services(HOME):
        typer.echo(move_alias(model).source)


@app.command()
def verify(
    model: Annotated[str, typer.Argument(help="models:/name/7 or models:/name@champion.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")] = False,
) -> None:
    """Verify a registered model: its files by digest, its evidence by running the gate again, its tags against both.

    Reads every file once and keeps none. Exits with 0 if every check passes, with 1 if one does not, and with 2
    if the model cannot be checked.
    """
    from loraline.registry.verify import verify as check

    errors = Console(stderr=True)
    with exit_on_error(), services(HOME), _progress_bar(errors) as bar:
        task = bar.add_task("reading", total=None)
        result = check(model, lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        typer.echo(result.model_dump_json(indent=2))
    else:
        _show_verification(Console(), result)
    raise typer.Exit(0 if result.passed else FAILED)


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(help="runs/latest, a folder, s3://bucket/prefix, models:/name@alias or models:/name/7.")
    ],
    output: Annotated[Path, typer.Argument(help="The folder to make; for gguf the file.")],
    kind: Annotated[
        Literal["safetensors", "adapter", "gguf"],
        typer.Option("--format", "-f", help="The merged model; the adapter alone, in PEFT's layout; or one GGUF file."),
    ] = "safetensors",
    outtype: Annotated[
        Literal["auto", "f32", "f16", "bf16", "q8_0"], typer.Option(help="Type of the weights in a GGUF file.")
    ] = "auto",
) -> None:
    """Write a model in a format that other programs load: safetensors (transformers, vLLM, PEFT) or GGUF (llama.cpp).

    A registered model's files are compared with the digests that it was registered with. GGUF files are made by
    llama.cpp's converter, found through LLAMA_CPP_DIR or on the PATH.
    """
    from loraline.export.export import export as write
    from loraline.sources.registry_address import RegistryAddress
    from loraline.units import format_bytes

    is_stored = model.startswith("s3://") or RegistryAddress.matches(model)
    with exit_on_error(), services(HOME) if is_stored else nullcontext():
        written = write(model, output, kind, outtype)
    console = Console()
    console.print(f"[bold]{written.path}[/bold]  {format_bytes(written.size)}", highlight=False)
    checked = f"verified by {written.verified}" if written.verified else "nothing to verify its bytes by"
    for line in [checked, *written.notes]:
        console.print(f"- {line}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def clean(
    keep: Annotated[
        int, typer.Option(help="How many versions without an alias to keep of each model, newest first.", min=0)
    ] = 3,
    bucket: Annotated[str, typer.Option(help="The recipes' registry.bucket.")] = "loraline",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove versions that no alias points at, and checkpoints and uploads that were not used for a week.

    Nothing is removed while a run is running.
    """
    from loraline.registry.clean import clean as remove
    from loraline.units import format_bytes

    with exit_on_error(), services(HOME):
        result = remove(bucket, keep, dry_run)
        for item in [*result.versions, *result.checkpoints, *result.uploads]:
            typer.echo(f"{'would remove' if dry_run else 'removed'}  {item}")
        if not result.running:
            typer.echo(f"{format_bytes(result.size)} {'would be' if dry_run else 'were'} freed")


def _progress_bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


def _show_verification(console: Console, result: "Verification") -> None:
    aliases = "".join(f" @{alias}" for alias in result.aliases)
    console.print(Text(f"{result.model_name} version {result.version}{aliases}", style="bold"))
    console.print(Text(f"{result.url}\n", style="dim"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("check", "", "detail"):
        table.add_column(column, overflow="fold")
    for check in result.checks:
        outcome = Text("passed", style="green") if check.passed else Text("FAILED", style="bold red")
        table.add_row(Text(check.name), outcome, Text(check.detail))
    console.print(table)
    failed = sum(not check.passed for check in result.checks)
    last = "No check failed." if result.passed else f"{failed} of {len(result.checks)} checks failed."
    console.print(Text(f"\n{last}", style="bold green" if result.passed else "bold red"))
