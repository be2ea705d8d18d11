"""The process that the steps of a run on this machine are forked from, because a step is mostly its imports.

mlflow, torch and transformers take seconds to import and a step of a small run works for one. On a cluster a
pod pays that once; here each step in turn would. So this process imports what a step imports, and then forks the
step: a module is read once in a run, and a step still has a process that no other step sees.
"""

import ast
import contextlib
import gc
import json
import multiprocessing
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Fork a step for each job that comes in over the socket in the first argument, until that is closed.

    The answer to a job is its step's exit status.
    """
    fork = multiprocessing.get_context("fork")
    with socket.socket(fileno=int(sys.argv[1])) as control, control.makefile("r") as jobs:
        for line in jobs:
            job = json.loads(line)
            _import_for(job["source"])
            gc.freeze()  # what is here already is not looked at again, and so not copied, in the step
            step = fork.Process(target=_run, args=(job,))
            step.start()
            step.join()
            control.sendall(f"{step.exitcode}\n".encode())


def _import_for(source: str) -> None:
    """Carry out the import statements of a step's source, and what tracking imports once it has something to send."""
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            # What cannot be imported here cannot be in the step either, which says so in its own log.
            with contextlib.suppress(Exception):
                exec(compile(ast.Module([statement], []), "imports", "exec"), {})
    if os.environ.get("MLFLOW_TRACKING_URI"):
        from loraline.tracking import preload

        preload()


def _run(job: dict[str, Any]) -> None:
    """What KFP's command does: write the step's source to a file, and hand that to KFP's executor."""
    from kfp.dsl.executor_main import executor_main

    os.environ.update(job["environment"])
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "ephemeral_component.py"
        module.write_text(job["source"])
        sys.argv = ["executor_main", "--component_module_path", str(module), *job["arguments"]]
        executor_main()


if __name__ == "__main__":
    main()
