"""A process of a data parallel training, started by worker_processes.py: `worker JOB_FILE`."""

import os
import signal
import sys
import threading
import traceback
from contextlib import redirect_stdout
from pathlib import Path

from loraline import tracking
from loraline.step import raise_on_sigterm
from loraline.training.distributed import Distributed, init_process_group
from loraline.training.train import train
from loraline.training.worker_processes import RENDEZVOUS, ProcessFailure, WorkerJob, error_file


def main() -> None:
    """Join the process group and train; write an error to the file in which its starter looks for it."""
    raise_on_sigterm()
    threading.Thread(target=_exit_with_caller, daemon=True).start()
    job_file = Path(sys.argv[1])
    job = WorkerJob.model_validate_json(job_file.read_text())
    with init_process_group(os.environ[RENDEZVOUS]) as distributed:
        try:
            _train(job, distributed)
        except Exception as error:
            _write_error(error, error_file(job_file))
            # Without the interpreter's shutdown, which destroys the process group and may wait for the other ranks.
            os._exit(1)


def _train(job: WorkerJob, distributed: Distributed) -> None:
    arguments = {name: getattr(job, name) for name in WorkerJob.model_fields}
    if distributed.is_main_process:
        with tracking.child_run("train_lora") as tracker:
            train(**arguments, tracker=tracker, distributed=distributed)
    else:
        with Path(os.devnull).open("w") as null, redirect_stdout(null):  # the main process alone reports progress
            train(**arguments, distributed=distributed)


def _write_error(error: Exception, file: Path) -> None:
    """Write the error, unless another process has failed before: then this one failed because of it."""
    traceback.print_exc()
    sys.stderr.flush()
    try:
        with file.open("x") as opened:
            opened.write(ProcessFailure(type=type(error).__name__, message=str(error)).model_dump_json())
    except FileExistsError:
        return


def _exit_with_caller() -> None:
    """Kill this process when standard input is closed: the process that started it has ended.

    Each is in a session of its own, so that no signal to a process group reaches it.
    """
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
