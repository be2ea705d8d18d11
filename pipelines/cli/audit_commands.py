"""The `audit` group: verify the audit trails of `loraline infer`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.cli.exits import FAILED, exit_on_error
from pipelines.local.services import AUDIT_TRAIL

app = typer.Typer(
    no_args_is_help=True,
    help="Audit trails: the policy decision on each prompt and answer of `loraline infer`.",
)


@app.callback()
def _group() -> None:
    """Make typer keep `verify` as a subcommand, although it is the only one."""


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The audit trail.")] = AUDIT_TRAIL,
    head: Annotated[
        str, typer.Option(help="A head hash that was noted earlier: shows whether records at the end were removed.")
    ] = "",
) -> None:
    """Verify the hash chain of an audit trail, and print its head.

    Each record holds the hash of the record before it, so that a line that was edited, removed or moved breaks the
    chain. Records missing at the end can be detected only with --head: keep the printed head where nobody who can
    write to the trail can change it, and give it the next time.

    Exits with 1 if the chain is broken, and prints the first line that breaks it.
    """
    from loraline.serving.audit_verification import verify as check

    out = Console(highlight=False, soft_wrap=True)
    with exit_on_error():
        result = check(file, head)
    if result.torn:
        out.print(f"[yellow]note[/yellow]  {result.torn} records are incomplete; a later record accounts for them")
    if result.incomplete:
        out.print(
            f"[yellow]note[/yellow]  the last {result.incomplete} bytes are an incomplete record; the next record "
            "will be written after it"
        )
    if found := result.chain_break:
        out.print(f"[bold red]{found.kind}[/bold red]  {file}, line {found.line}: {found.detail}")
        if result.records:
            out.print(f"the {result.records:,} records before it are intact, up to {result.head}")
        raise typer.Exit(FAILED)
    out.print(f"[green]intact[/green]  {file}: {result.records:,} records")
    out.print(f"head   {result.head}")
