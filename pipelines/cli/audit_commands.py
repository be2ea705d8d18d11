"""The command line's part for audit trails: `loraline audit`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.cli.exits import FAILED, errors_told
from pipelines.local.services import HOME

audit = typer.Typer(
    no_args_is_help=True,
    help="Audit trails: what was decided on each prompt and answer of `loraline infer`.",
)


@audit.callback()
def _group() -> None:
    """Keep `verify` a command of its own, though it is the only one."""


@audit.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The audit trail.")] = HOME / "audit.jsonl",
    head: Annotated[
        str, typer.Option(help="A head that was noted earlier, elsewhere: shows whether the end was cut off since.")
    ] = "",
) -> None:
    """Check that an audit trail is what was written, and print its head.

    Each record holds the hash of the one before it, so that a line that was edited, removed or moved breaks the chain.
    That lines at the end are missing shows only against a head: note the one that is printed where nobody who can
    write to the trail can change it, and give it with --head the next time.

    Exits with 1 where the chain is broken, and names the first line.
    """
    from loraline.serving.audit_verification import verify as follow

    out = Console(highlight=False, soft_wrap=True)
    with errors_told():
        found = follow(file, head)
    if found.torn:
        out.print(f"[yellow]note[/yellow]  {found.torn} torn while it was written, and vouched for by what came after")
    if found.unfinished:
        out.print(
            f"[yellow]note[/yellow]  the last {found.unfinished} bytes are a record that was cut off while it was "
            "written; the next one will be put behind it"
        )
    if found.broken:
        out.print(f"[bold red]{found.broken.how}[/bold red]  {file}, line {found.broken.line}: {found.broken.detail}")
        if found.records:
            out.print(f"before it {found.records:,} records are whole, up to {found.head}")
        raise typer.Exit(FAILED)
    out.print(f"[green]whole[/green]  {file}: {found.records:,} records")
    out.print(f"head   {found.head}")
