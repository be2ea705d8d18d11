"""The context in which a step of the pipeline runs: its announcement, its end by a signal, its error report."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from loraline import progress, tracking


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce that a step begins; on an error, report it in one message and let it pass.

    A termination (SIGTERM, as Kubernetes sends before it takes a pod away) ends the step as an exception
    would, so that what it holds is closed. Either way the pipeline's run in MLflow is marked.
    """
    raise_on_sigterm()
    progress.emit("step", f"{name} ...", name=name)
    try:
        yield
    except BaseException as error:
        stopped = not isinstance(error, Exception)
        if not stopped:
            progress.emit("error", f"{name} failed: {error}", name=name, type=type(error).__name__, message=str(error))
        tracking.parent_run().close("KILLED" if stopped else "FAILED")
        raise


def raise_on_sigterm() -> None:
    """Have SIGTERM raise SystemExit with the status that a shell gives to it, 128 + 15."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
