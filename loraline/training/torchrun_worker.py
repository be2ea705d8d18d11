"""One of the processes that train together, as `job.torchrun` has it started: `worker JOB_FILE`."""

import os
import signal
import sys
import threading
import traceback
from contextlib import redirect_stdout
from pathlib import Path

from loraline import tracking
from loraline.step import raise_on_sigterm
from loraline.training.distributed import Ranks, joined
from loraline.training.torchrun import Failure, Job, error_file
from loraline.training.train import train


def main() -> None:
    """Join the others and train; on an error leave it where torchrun's caller finds it."""
    raise_on_sigterm()
    threading.Thread(target=_end_with_caller, daemon=True).start()
    job_file = Path(sys.argv[1])
    job = Job.model_validate_json(job_file.read_text())
    with joined() as ranks:
        try:
            _train(job, ranks)
        except Exception as error:
            _leave(error, error_file(job_file))
            # Not by way of the interpreter's end, which closes the process group and may wait for the others.
            os._exit(1)


def _train(job: Job, ranks: Ranks) -> None:
    told = {name: getattr(job, name) for name in Job.model_fields}
    if ranks.leads:
        with tracking.child_run("train_lora") as tracker:
            train(**told, tracker=tracker, ranks=ranks)
    else:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # the first tells how far training is
            train(**told, ranks=ranks)


def _leave(error: Exception, file: Path) -> None:
    """The first to fail tells; the others fail because it did."""
    traceback.print_exc()
    sys.stderr.flush()
    try:
        with file.open("x") as left:
            left.write(Failure(type=type(error).__name__, message=str(error)).model_dump_json())
    except FileExistsError:
        return


def _end_with_caller() -> None:
    """Wait for the end of standard input, which torchrun has from its caller: then that one is no more.

    torchrun gives each process a session of its own, so that no signal to a process group reaches it.
    """
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
