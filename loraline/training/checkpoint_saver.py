"""When checkpoints are saved, and that training goes on meanwhile."""

import time
from collections.abc import Callable
from threading import Thread
from types import TracebackType
from typing import Self

from loraline.training.checkpoint import Checkpoint, CheckpointStore
from loraline.training.config import TrainConfig

_SECONDS_UNTIL_RETRY = 30.0  # of a checkpoint that could not be saved
_SECONDS_TO_END = 5.0  # for a checkpoint that is being written when training fails or is interrupted


class CheckpointSaver:
    """Saves checkpoints by step and by time, each from a copy of the state, in a thread of its own.

    Only one copy exists at a time, which bounds the memory: what is due while the last is still being written is saved
    as soon as that is done, in the state of that moment. The last checkpoint is waited for.
    """

    def __init__(
        self,
        store: CheckpointStore,
        config: TrainConfig,
        epoch_ends: list[int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to count the time.

        Args:
            store: where checkpoints are kept.
            config: how often they are saved.
            epoch_ends: number of steps done at the end of each epoch; the last is that of the training.
            clock: a clock, in seconds.
        """
        self._store = store
        self._config = config
        self._epoch_ends = epoch_ends
        self._clock = clock
        self._saved_at = clock()
        self._not_before = 0.0
        self._is_due = False
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread:
            self._thread.join(None if error is None else _SECONDS_TO_END)
        if self._error and error is None:
            raise self._error

    def after_step(self, step: int, copy_state: Callable[[], Checkpoint], is_last: bool) -> None:
        """Save a checkpoint if one is due.

        Args:
            step: optimizer steps done.
            copy_state: makes a copy of the training state that later steps do not change.
            is_last: whether training ends here; then a checkpoint is saved, and waited for.
        """
        if self._error:
            raise self._error
        if is_last:
            if self._thread:
                self._thread.join()
            self._store.save(step, copy_state())
            return
        now = self._clock()
        self._is_due = self._is_due or self._is_due_by_step(step) or self._is_due_by_time(now)
        if self._is_due and now >= self._not_before and not (self._thread and self._thread.is_alive()):
            self._is_due, self._saved_at = False, now
            self._thread = Thread(target=self._save, args=(step, copy_state()), name="checkpoint", daemon=True)
            self._thread.start()

    def _is_due_by_step(self, step: int) -> bool:
        return is_due(self._config.save_steps, step, self._epoch_ends)

    def _is_due_by_time(self, now: float) -> bool:
        return 0 < self._config.save_minutes * 60 <= now - self._saved_at

    def _save(self, step: int, checkpoint: Checkpoint) -> None:
        try:
            if not self._store.save(step, checkpoint):
                self._not_before = self._clock() + _SECONDS_UNTIL_RETRY
                self._is_due = True
        except BaseException as error:
            self._error = error  # raised in the training's own thread


def is_due(every: int, step: int, epoch_ends: list[int]) -> bool:
    """Whether an action is due after a step: each `every` steps (0: at each epoch's end), and after the last step."""
    return step == epoch_ends[-1] or (step % every == 0 if every else step in epoch_ends)
