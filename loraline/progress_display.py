"""Progress in a notebook, on a terminal or in a log: a bar for the phase that runs, a line for each that is done."""

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from loraline import progress

_NAME_WIDTH = 14


class PhaseDisplay(progress.Output, Protocol):
    """Shows the events of one phase, and how it ended."""

    def close(self, state: str, seconds: float) -> None:
        """Show that the phase is done, failed or stopped."""


@contextmanager
def shown(phase: str) -> Iterator[None]:
    """Show the progress of a phase on standard error, or below a notebook's cell.

    Does nothing where another process reads events, or where a phase that is shown contains this one.
    """
    if progress.events_wanted() or progress.is_shown():
        yield
        return
    display = _display(phase)
    started = time.monotonic()
    state = "failed"
    try:
        with progress.shown_by(display):
            yield
        state = "done"
    except KeyboardInterrupt:
        state = "stopped"
        raise
    finally:
        display.close(state, time.monotonic() - started)


def tell(phase: str, text: str) -> None:
    """Show the line of a phase that needed no work."""
    with progress.shown_by(display := _display(phase)):
        progress.headline(text)
    display.close("reused", 0.0)


def _display(phase: str) -> PhaseDisplay:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_jupyter:
        return NotebookDisplay(phase)
    return TerminalDisplay(phase, console) if console.is_terminal else LogDisplay(phase)


def progress_bar(console: Console, indent: str = "") -> Progress:
    """A bar that goes away when it is stopped; where the console is not a terminal, nothing is shown.

    A task of it needs a field `detail`, the text behind the count.
    """
    return Progress(
        TextColumn(indent + "{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def move_bar(bar: Progress, task: TaskID, event: dict[str, Any]) -> None:
    """Show an event of progress: how much is done, in which unit, and the figures of the moment."""
    figures = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in event["figures"].items())
    bar.update(task, completed=event["done"], total=event["total"], detail=f"{event['unit']}  {figures}")


def line(phase: str, state: str, seconds: float, headline: str) -> str:
    """The line of a phase that has ended."""
    took = f"{seconds:.1f} s" if state != "reused" else ""
    return f"{phase:<{_NAME_WIDTH}}  {state:<7} {took:>8}  {headline}".rstrip()


class LogDisplay:
    """Lines on standard error."""

    seconds_between_updates = 10.0

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self._headline = ""

    def show(self, kind: str, text: str, fields: dict[str, Any]) -> None:
        """Write notes and progress; keep the headline for the end."""
        if kind == "headline":
            self._headline = text
        elif kind != "progress" or fields["done"] < fields["total"]:
            self._write(f"{self._phase:<{_NAME_WIDTH}}  {text}")

    def close(self, state: str, seconds: float) -> None:
        """Write the line of the phase."""
        self._write(line(self._phase, state, seconds, self._headline))

    def _write(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class TerminalDisplay:
    """A progress bar that goes away when the phase ends, with notes above it."""

    seconds_between_updates = 0.2

    def __init__(self, phase: str, console: Console) -> None:
        self._phase = phase
        self._headline = ""
        self._console = console
        self._bar = progress_bar(console)
        self._task = self._bar.add_task(f"{phase:<{_NAME_WIDTH}}", total=None, detail="")
        self._bar.start()

    def show(self, kind: str, text: str, fields: dict[str, Any]) -> None:
        """Move the bar, or write a note above it."""
        if kind == "headline":
            self._headline = text
        elif kind == "progress":
            move_bar(self._bar, self._task, fields)
        else:
            self._console.print(f"{'':<{_NAME_WIDTH}}  {text}", style="dim", markup=False)

    def close(self, state: str, seconds: float) -> None:
        """Replace the bar by the line of the phase."""
        self._bar.stop()
        style = {"done": "green", "reused": "cyan", "stopped": "yellow"}.get(state, "bold red")
        self._console.print(line(self._phase, state, seconds, self._headline), style=style, markup=False)


class NotebookDisplay:
    """A progress bar below the cell, without ipywidgets; what stays is the line of the phase, and its notes."""

    seconds_between_updates = 0.5

    def __init__(self, phase: str) -> None:
        from IPython.display import display

        self._phase = phase
        self._headline = ""
        self._notes: list[str] = []
        self._handle = display(_mime_bundle([phase]), raw=True, display_id=True)

    def show(self, kind: str, text: str, fields: dict[str, Any]) -> None:
        """Move the bar, or add a note."""
        if kind == "headline":
            self._headline = text
        elif kind == "progress":
            bar = f'<progress value="{fields["done"]}" max="{fields["total"]}"></progress> '
            self._update([f"{self._phase:<{_NAME_WIDTH}}  {text}"], bar)
        else:
            self._notes.append(f"{'':<{_NAME_WIDTH}}  {text}")
            self._update([self._phase])

    def close(self, state: str, seconds: float) -> None:
        """Replace the bar by the line of the phase."""
        self._update([line(self._phase, state, seconds, self._headline)])

    def _update(self, lines: list[str], bar: str = "") -> None:
        self._handle.update(_mime_bundle([*lines, *self._notes], bar), raw=True)


def _mime_bundle(lines: list[str], bar: str = "") -> dict[str, str]:
    text = "\n".join(lines)
    style = "margin: 0; padding: 0; background: transparent; white-space: pre-wrap"
    return {"text/plain": text, "text/html": f'<pre style="{style}">{bar}{html.escape(text)}</pre>'}
