"""The process that forks the steps of a local run, so that they share the time of their imports.

Importing mlflow, torch and transformers takes seconds, and a step of a small run works for about one. This process
imports what a step imports and then forks the step: a module is imported once per run, and each step still runs in its
own process.
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
    """Fork a step for each job that arrives on the socket in the first argument, until it is closed.

    The reply to a job is the exit status of its step.
    """
    fork = multiprocessing.get_context("fork")
    with socket.socket(fileno=int(sys.argv[1])) as control, control.makefile("r") as jobs:
        for line in jobs:
            job = json.loads(line)
            _import_for(job["source"])
            gc.freeze()  # garbage collection in the step then does not touch, and so not copy, what is loaded here
            step = fork.Process(target=_run, args=(job,))
            step.start()
            step.join()
            control.sendall(f"{step.exitcode}\n".encode())


def _import_for(source: str) -> None:
    """Run the import statements of a step's source, and the imports of tracking."""
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            # An import that fails here also fails in the step, which reports it in its log.
            with contextlib.suppress(Exception):
                exec(compile(ast.Module([statement], []), "imports", "exec"), {})
    if os.environ.get("MLFLOW_TRACKING_URI"):
        from loraline.tracking import preload

        preload()


def _run(job: dict[str, Any]) -> None:
    """Do what KFP's command does: write the step's source to a file and call KFP's executor with it."""
    from kfp.dsl.executor_main import executor_main

    os.environ.update(job["environment"])
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "ephemeral_component.py"
        module.write_text(job["source"])
        sys.argv = ["executor_main", "--component_module_path", str(module), *job["arguments"]]
        executor_main()


if __name__ == "__main__":
    main()
