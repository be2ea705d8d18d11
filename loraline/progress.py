"""Progress of the work that runs in this process, for the person who waits for it.

An `Output` decides where it is shown. On a cluster each message is a line of the pod's log. Under `loraline run` it is
a JSON line that the command turns into a progress bar, a headline or an error. In a notebook or a script
`loraline.progress_display` shows it.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

EVENT_MARK = "::loraline::"


class Output(Protocol):
    """Receives the events of this process."""

    seconds_between_updates: float
    """Minimum time between two updates of a progress bar."""

    def show(self, kind: str, text: str, fields: dict[str, Any]) -> None:
        """Show an event: its kind, what it says in words, and the values that it holds."""


class TextLines:
    """A line of text for each event: a log."""

    seconds_between_updates = 10.0

    def show(self, kind: str, text: str, fields: dict[str, Any]) -> None:
        """Print the text."""
        print(text, flush=True)


class ErrorLines:
    """A line of text for each event on the standard error stream, for a command whose output a program reads."""

    seconds_between_updates = 10.0

    def show(self, kind: str, text: str, fields: dict[str, Any]) -> None:
        """Print the text."""
        print(text, file=sys.stderr, flush=True)


class JsonLines:
    """A line of JSON for each event, for the process that started this one."""

    seconds_between_updates = 0.2

    def show(self, kind: str, text: str, fields: dict[str, Any]) -> None:
        """Print the event."""
        print(f"{EVENT_MARK} {json.dumps({'kind': kind, **fields})}", flush=True)


class NoOutput:
    """Shows nothing, for work whose result is shown in another way."""

    seconds_between_updates = math.inf

    def show(self, kind: str, text: str, fields: dict[str, Any]) -> None:
        """Drop the event."""


class _State:
    output: Output | None = None
    """Set by `shown_by`; None: lines, as the environment asks for."""
    last_update = 0.0


def events_wanted() -> bool:
    """Whether the process that started this one reads events (LORALINE_EVENTS=1)."""
    return os.environ.get("LORALINE_EVENTS") == "1"


def is_shown() -> bool:
    """Whether `shown_by` decides where events are shown."""
    return _State.output is not None


@contextmanager
def shown_by(output: Output) -> Iterator[None]:
    """Show all events of this process by `output`, whatever thread they come from, until the context ends."""
    before, _State.output = _State.output, output
    _State.last_update = time.monotonic()  # a bar that has just begun needs no update yet
    try:
        yield
    finally:
        _State.output = before


def _output() -> Output:
    return _State.output or (JsonLines() if events_wanted() else TextLines())


def emit(kind: str, text: str, /, **fields: Any) -> None:
    """Show an event; `text` says in words what its fields hold."""
    _output().show(kind, text, fields)


def advance(done: int, total: int, unit: str, **figures: float) -> None:
    """Report how far a long piece of work is: `done` of `total` `unit`s, and current figures such as the loss.

    Call it as often as convenient; updates that follow each other too closely are dropped, except the last.
    """
    now = time.monotonic()
    if done < total and now - _State.last_update < _output().seconds_between_updates:
        return
    _State.last_update = now
    shown = "".join(f", {name} {value:.4g}" for name, value in figures.items())
    emit("progress", f"{done}/{total} {unit}{shown}", done=done, total=total, unit=unit, figures=figures)


def headline(text: str) -> None:
    """Report the one result that matters of what the step has done, such as `exact match 0.95`."""
    emit("headline", text, text=text)


def note(text: str) -> None:
    """Report something worth knowing while waiting."""
    emit("note", text, text=text)
