"""A process of a data parallel training, started by torchrun: `torchrun_worker JOB_FILE`."""

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
from loraline.training.torchrun import ProcessFailure, TorchrunJob, error_file
from loraline.training.train import train


def main() -> None:
    """Join the process group and train; write an error to the file in which the caller of torchrun looks for it."""
    raise_on_sigterm()
    threading.Thread(target=_exit_with_caller, daemon=True).start()
    job_file = Path(sys.argv[1])
    job = TorchrunJob.model_validate_json(job_file.read_text())
    with init_process_group() as distributed:
        try:
            _train(job, distributed)
        except Exception as error:
            _write_error(error, error_file(job_file))
            # Without the interpreter's shutdown, which destroys the process group and may wait for the other ranks.
            os._exit(1)


def _train(job: TorchrunJob, distributed: Distributed) -> None:
    arguments = {name: getattr(job, name) for name in TorchrunJob.model_fields}
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
    """Kill this process when standard input, inherited from the caller of torchrun, is closed: the caller has ended.

    torchrun starts each process in a session of its own, so that no signal to a process group reaches it.
    """
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
