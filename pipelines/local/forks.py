"""Have kfp.local fork its steps from one process (`pipelines.local.fork_server`), where that is safe."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kfp.local import subprocess_task_handler

_GPUS = ("/dev/nvidiactl", "/dev/kfd")  # NVIDIA's driver, AMD's


def is_safe() -> bool:
    """Whether steps may be forked: on Linux without a GPU, because a GPU's context does not survive a fork."""
    return sys.platform == "linux" and not any(Path(device).exists() for device in _GPUS)


@contextmanager
def steps_forked() -> Iterator[None]:
    """Fork steps until the context ends, in this process's environment; where it is not safe, leave all as it is."""
    if not is_safe():
        yield
        return
    ours, theirs = socket.socketpair()
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-u", "-m", "pipelines.local.fork_server", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "_KFP_RUNTIME": "true"},  # as KFP's command sets it: the runtime part of kfp is enough
        )
    start = subprocess_task_handler.run_local_subprocess
    subprocess_task_handler.run_local_subprocess = partial(_fork, ours)
    try:
        yield
    finally:
        subprocess_task_handler.run_local_subprocess = start
        ours.close()
        server.wait()


def _fork(control: socket.socket, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
    """Run a step's command, which is `sh -c <script> <source> <arguments>`; its exit status.

    It takes the place of kfp.local's function of these arguments, which runs one step at a time.
    """
    _shell, _option, script, source, *arguments = full_command
    assert "kfp.dsl.executor_main" in script, script
    job: dict[str, Any] = {"source": source, "arguments": arguments, "environment": env_vars or {}}
    try:
        control.sendall(json.dumps(job).encode() + b"\n")
        with control.makefile("r") as answers:
            status = answers.readline()
    except ConnectionError:
        status = ""
    return int(status) if status else 1  # no status: the server was killed, and the step with it
