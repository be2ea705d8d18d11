"""What a running step tells the person who waits for it.

On a cluster each message is a line of the pod's log. Under `loraline run` it is a JSON line that the
command turns into a progress bar, a headline or an error.
"""

import json
import os
import time
from typing import Any

EVENT_MARK = "::loraline::"
_SECONDS_BETWEEN_UPDATES = {True: 0.2, False: 10.0}  # a person watches / a log grows
_last_update = 0.0


def _events_wanted() -> bool:
    return os.environ.get("LORALINE_EVENTS") == "1"


def emit(kind: str, text: str, /, **fields: Any) -> None:
    """Write an event, or `text` where nobody reads events."""
    line = f"{EVENT_MARK} {json.dumps({'kind': kind, **fields})}" if _events_wanted() else text
    print(line, flush=True)


def advance(done: int, total: int, unit: str, **figures: float) -> None:
    """Say how far a long piece of work is: `done` of `total` `unit`s, and the figures of the moment.

    Call it as often as convenient; what comes too soon after the last update is not sent, except the end.
    """
    global _last_update  # noqa: PLW0603
    now = time.monotonic()
    if done < total and now - _last_update < _SECONDS_BETWEEN_UPDATES[_events_wanted()]:
        return
    _last_update = now
    shown = "".join(f", {name} {value:.4g}" for name, value in figures.items())
    emit("progress", f"{done}/{total} {unit}{shown}", done=done, total=total, unit=unit, figures=figures)


def headline(text: str) -> None:
    """Say the one figure that matters of what the step has done, such as `exact match 0.95`."""
    emit("headline", text, text=text)


def note(text: str) -> None:
    """Say something that a person would want to know while waiting."""
    emit("note", text, text=text)
