"""What a running step tells the person who waits for it.

On a cluster each message is a line of the pod's log. Under `loraline run` it is a JSON line that the
command turns into a progress bar, a headline or an error.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EVENT_MARK = "::loraline::"
_SECONDS_BETWEEN_UPDATES = {True: 0.2, False: 10.0}  # a person watches / a log grows
_last_update = 0.0


def _events_wanted() -> bool:
    return os.environ.get("LORALINE_EVENTS") == "1"


def _emit(kind: str, text: str, /, **fields: Any) -> None:
    line = f"{EVENT_MARK} {json.dumps({'kind': kind, **fields})}" if _events_wanted() else text
    print(line, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce that a step begins; on an error, say in one message what went wrong, and let it pass.

    A termination (SIGTERM, as Kubernetes sends before it takes a pod away) ends the step as an exception
    would, so that what it holds is closed. Either way the pipeline's run in MLflow is marked.
    """
    signal.signal(signal.SIGTERM, _terminate)
    _emit("step", f"{name} ...", name=name)
    try:
        yield
    except BaseException as error:
        from components.shared import tracking

        stopped = not isinstance(error, Exception)
        if not stopped:
            _emit("error", f"{name} failed: {error}", name=name, type=type(error).__name__, message=str(error))
        tracking.parent_run().close("KILLED" if stopped else "FAILED")
        raise


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


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
    _emit("progress", f"{done}/{total} {unit}{shown}", done=done, total=total, unit=unit, figures=figures)


def headline(text: str) -> None:
    """Say the one figure that matters of what the step has done, such as `exact match 0.95`."""
    _emit("headline", text, text=text)


def note(text: str) -> None:
    """Say something that a person would want to know while waiting."""
    _emit("note", text, text=text)
