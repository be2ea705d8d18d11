"""Make kfp.local fork its steps from one process (`pipelines.local.fork_server`) where that is safe."""

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
    """Whether steps may be forked: on Linux without a GPU, because a GPU context does not survive a fork."""
    return sys.platform == "linux" and not any(Path(device).exists() for device in _GPUS)


@contextmanager
def fork_steps() -> Iterator[None]:
    """Fork steps until the context ends, in this process's environment; do nothing where forking is not safe."""
    if not is_safe():
        yield
        return
    ours, theirs = socket.socketpair()
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-u", "-m", "pipelines.local.fork_server", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "_KFP_RUNTIME": "true"},  # as KFP's command does: only kfp's runtime is imported
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
    """Run a step's command, `sh -c <script> <source> <arguments>`; returns its exit status.

    Replaces the function of kfp.local with the same signature, which runs one step at a time.
    """
    _shell, _option, script, source, *arguments = full_command
    assert "kfp.dsl.executor_main" in script, script
    job: dict[str, Any] = {"source": source, "arguments": arguments, "environment": env_vars or {}}
    try:
        control.sendall(json.dumps(job).encode() + b"\n")
        with control.makefile("r") as replies:
            status = replies.readline()
    except ConnectionError:
        status = ""
    return int(status) if status else 1  # no reply: the server was killed, and the step with it
