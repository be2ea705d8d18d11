"""Exit statuses and error messages, the same for every command."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from loraline.errors import ClusterError, LoralineError
from pipelines.local.run import RunFailedError

FAILED = 1
"""Exit status: the command did its work and the result is bad: a run failed, a recipe does not fit."""
REFUSED = 2
"""Exit status: nothing was done, or the result is unknown; the message says why. Also typer's own for a bad option."""
STOPPED = 130
"""Exit status: Ctrl-C. A run on this machine resumes with the same command; a run on a cluster continues."""

MEANINGS = (
    "**Exit status** of every command: 0 success; 1 the result is bad (a run failed or was stopped, a recipe does not"
    " fit, a check does not pass); 2 refused: nothing was done, or the result is unknown, and the message says why;"
    " 130 Ctrl-C."
)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print one of Loraline's errors as one message without a traceback, and exit with its status."""
    console = Console(stderr=True)
    try:
        yield
    except LoralineError as error:
        word, status = _meaning(error)
        console.print(f"[bold red]{word}[/bold red]  ", end="")
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(status) from error
    except KeyboardInterrupt:
        console.print("\n[yellow]stopped[/yellow]  Give the same command again to resume.")
        raise typer.Exit(STOPPED) from None


def _meaning(error: LoralineError) -> tuple[str, int]:
    if isinstance(error, RunFailedError):
        return "failed", FAILED
    return ("cluster" if isinstance(error, ClusterError) else "refused"), REFUSED
