"""`loraline verify`: is a registered model what its evidence says?"""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from pipelines.cli.exits import FAILED, errors_told
from pipelines.local.services import HOME, services

if TYPE_CHECKING:
    from loraline.registry.verify import Verification

app = typer.Typer()


@app.command()
def verify(
    model: Annotated[str, typer.Argument(help="models:/name/7 or models:/name@champion.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON, for programs.")] = False,
) -> None:
    """Check a registered model: its files by their digests, its evidence by weighing it again, its tags by both.

    Reads every file once and keeps none. Exits with 0 where every check passes, with 1 where one does not, and with 2
    where it cannot be told.
    """
    from loraline.registry.verify import verify as check

    errors = Console(stderr=True)
    with errors_told(), services(HOME), _bar(errors) as bar:
        task = bar.add_task("reading", total=None)
        found = check(model, lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        _show(Console(), found)
    raise typer.Exit(0 if found.passed else FAILED)


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


def _show(console: Console, found: "Verification") -> None:
    aliases = "".join(f" @{alias}" for alias in found.aliases)
    console.print(Text(f"{found.model_name} version {found.version}{aliases}", style="bold"))
    console.print(Text(f"{found.url}\n", style="dim"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("check", "", "what was found"):
        table.add_column(column, overflow="fold")
    for check in found.checks:
        outcome = Text("passed", style="green") if check.passed else Text("FAILED", style="bold red")
        table.add_row(Text(check.name), outcome, Text(check.detail))
    console.print(table)
    failed = sum(not check.passed for check in found.checks)
    last = "It is what its evidence says." if found.passed else f"{failed} of {len(found.checks)} checks failed."
    console.print(Text(f"\n{last}", style="bold green" if found.passed else "bold red"))
