"""Tables and lines that show runs on a cluster."""

from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.cli.exits import FAILED, STOPPED
from pipelines.client.connection import Cluster
from pipelines.client.follow import ClusterStep, duration, follow, steps_of

_STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "failed": "bold red",
    "canceled": "yellow",
    "skipped": "dim",
    "waiting": "dim",
}


def follow_to_exit(console: Console, cluster: Cluster, run: Any, spec: dict[str, Any]) -> None:
    """Show a run's steps until it ends, and exit with the status that its final state has."""
    page = cluster.link(f"runs/details/{run.run_id}")
    print_link(console, page)
    short = run.run_id[:8]
    try:
        ended = follow(
            cluster,
            run,
            spec,
            on_change=lambda step: print_step(console, step),
            on_warning=lambda text: console.print(f"[yellow]note[/yellow]  {escape(text)}", highlight=False),
        )
    except KeyboardInterrupt:
        console.print(
            f"\n[yellow]stopped watching[/yellow]; the run continues. `loraline runs {short} --follow` watches it"
            f" again, `loraline stop {short}` stops it.",
            highlight=False,
        )
        raise typer.Exit(STOPPED) from None
    console.print(colored(ended.state.lower()))
    if ended.state in ("SUCCEEDED", "SKIPPED"):
        raise typer.Exit(0)
    if ended.error and ended.error.message:
        console.print(ended.error.message, markup=False, highlight=False)
    for step in steps_of(ended, spec):
        if step.state == "failed":
            console.print(f"show its log: `loraline logs {short} {step.name}`", highlight=False)
    raise typer.Exit(FAILED)


def print_step(console: Console, step: ClusterStep) -> None:
    """Print one step in one line: name, state, duration."""
    took = "" if step.seconds is None else f"{step.seconds:.0f} s"
    name = step.name if step.name == step.label else f"{step.name} ({step.label})"
    console.print(f"  {escape(name):<34} {colored(step.state)}  {took}", highlight=False)


def print_runs(console: Console, runs: list[Any]) -> None:
    """Print runs (KFP's V2beta1Run) as a table."""
    if not runs:
        console.print("no runs yet: start one with `loraline submit quickstart`")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("run", "name", "state", "started", "took"):
        table.add_column(column, no_wrap=column != "name")
    for run in runs:
        seconds = duration(run.created_at, run.finished_at)
        took = "" if seconds is None else f"{seconds / 60:.0f} min"
        started = f"{run.created_at.astimezone():%Y-%m-%d %H:%M}"
        state = colored((run.state or "pending").lower())
        table.add_row(run.run_id[:8], escape(run.display_name), state, started, took)
    console.print(table)


def colored(state: str) -> str:
    """A state with rich markup for its color."""
    style = _STYLES.get(state)
    return f"[{style}]{state}[/{style}]" if style else state


def print_link(console: Console, link: str) -> None:
    """Print a link on its own line without wrapping, so that terminals can open it."""
    console.print(link, markup=False, highlight=False, soft_wrap=True)
