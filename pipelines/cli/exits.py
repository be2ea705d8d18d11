"""How a command ends: its exit status, and the words for an error. One meaning each, in every command."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from loraline.errors import ClusterError, LoralineError
from pipelines.local.run import RunFailedError

FAILED = 1
"""Exit status: what was asked for was done, and it came out badly: a run failed, a recipe does not fit."""
REFUSED = 2
"""Exit status: nothing was done, or it cannot be told; the message says why. Also a word the command does not know."""
STOPPED = 130
"""Exit status: Ctrl-C. A run on this machine goes on when the same command is given again; one on a cluster goes on."""

MEANINGS = (
    "**Exit status** of every command: 0 it is done; 1 it was done and came out badly (a run failed or was stopped, a"
    " recipe does not fit, a check does not pass); 2 refused: nothing was done, or it cannot be told, and the message"
    " says why; 130 Ctrl-C."
)


@contextmanager
def errors_told() -> Iterator[None]:
    """Tell an error of ours in one message, without a traceback, and exit with what it means."""
    console = Console(stderr=True)
    try:
        yield
    except LoralineError as error:
        word, status = _meaning(error)
        console.print(f"[bold red]{word}[/bold red]  ", end="")
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(status) from error
    except KeyboardInterrupt:
        console.print("\n[yellow]stopped[/yellow]  The same command goes on from where this one was.")
        raise typer.Exit(STOPPED) from None


def _meaning(error: LoralineError) -> tuple[str, int]:
    if isinstance(error, RunFailedError):
        return "failed", FAILED
    return ("cluster" if isinstance(error, ClusterError) else "refused"), REFUSED
