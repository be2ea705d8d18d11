"""A Docker engine for the tests: this machine's, or, for root on Debian, one that is started and stopped here."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPLACEMENT = "loraline-base:bookworm"
_SECONDS_TO_START = 60
_SECONDS_TO_PULL = 120


class NoEngineError(RuntimeError):
    """No engine answers and none can be started; the message has the reason."""


@dataclass(frozen=True)
class Engine:
    """An engine, as the environment with which `docker` connects to it."""

    environment: dict[str, str]

    def run(self, *arguments: str, seconds: float | None = None, check: bool = True) -> str:
        """Run `docker ...`; returns its standard output."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """Provide an engine until the context ends.

    Its images and layers are in a temporary folder below /var/tmp, unless LORALINE_DOCKER_ROOT names a folder that
    keeps them for the next time.

    Raises:
        NoEngineError: there is none, and this process is not root on Debian.
    """
    if _answers(dict(os.environ)):
        yield Engine(dict(os.environ))
        return
    _install_docker()
    kept = os.environ.get("LORALINE_DOCKER_ROOT")
    data = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="loraline-docker-", dir="/var/tmp"))
    # Debian's own client first: another one on the PATH may not support this version of the engine.
    environment = {
        **os.environ,
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "PATH": f"/usr/bin:{os.environ['PATH']}",
    }
    with (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(_daemon(folder, data), stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait_for(process, environment, folder / "dockerd.log")
        yield Engine(environment)
    finally:
        process.terminate()
        process.wait(timeout=60)
        # The engine leaves its network namespace mounted, which keeps the folder from being removed.
        subprocess.run(["umount", "--quiet", f"{folder}/exec/netns/default"], check=False)
        if not kept:
            shutil.rmtree(data)


def base_image(docker: Engine, root: Path) -> str:
    """The Dockerfile's base image if it can be pulled; else a replacement from Debian's packages.

    The replacement is a minimal Debian bookworm with its Python 3.11, the release that the base image is made of.

    Raises:
        NoEngineError: there is neither, or containers cannot run here, or cannot reach Debian's packages.
    """
    found = re.search(r"^ARG BASE=(\S+)", (root / "images/Dockerfile").read_text(), re.MULTILINE)
    assert found
    image = next((one for one in (found[1], REPLACEMENT) if docker.run("images", "--quiet", one)), "")
    if not image:
        try:
            docker.run("pull", "--quiet", found[1], seconds=_SECONDS_TO_PULL)
            image = found[1]
        except (AssertionError, subprocess.TimeoutExpired):
            _make_replacement(docker)
            image = REPLACEMENT
    try:
        docker.run("run", "--rm", "--network=host", image, "apt-get", "update", "--quiet", seconds=_SECONDS_TO_PULL)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        raise NoEngineError(f"an engine runs, but its containers cannot reach Debian's packages: {error}") from error
    return image


def built(docker: Engine, root: Path, image: str, base: str) -> str:
    """Build an image with the command that users run; returns its name.

    The gpu image gets the CPU build of torch, or, with a warning, the CUDA build if the package index has no other.
    """
    name = f"loraline-{image}:test"
    command = [sys.executable, str(root / "images/build.py"), image, "--torch", "cpu-or-cuda"]
    command += ["--base", base, "--tag", "test"]
    done = subprocess.run(
        command, env=docker.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:]
    for note in (line for line in done.stdout.splitlines() if line.startswith("note: ")):
        warnings.warn(note, stacklevel=2)
    return name


def _answers(environment: dict[str, str]) -> bool:
    try:
        command = ["docker", "info", "--format", "{{.ServerVersion}}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and bool(done.stdout.strip())


def _install_docker() -> None:
    """Install Debian's engine if it is missing. Raises NoEngineError if that is not possible."""
    missing = [name for name in ("dockerd", "debootstrap") if not shutil.which(name)]
    if os.name != "posix" or os.geteuid() != 0:
        raise NoEngineError("no Docker engine answers, and starting one needs root")
    if missing and not shutil.which("apt-get"):
        raise NoEngineError(
            f"no Docker engine answers, and {' and '.join(missing)} to start one cannot be installed: "
            "this is not Debian, where apt-get would install them"
        )
    if missing:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["update"], ["install", "--yes", "--no-install-recommends", "docker.io", "debootstrap"]):
            done = subprocess.run(["apt-get", *step], env=quiet, capture_output=True, text=True, check=False)
            if done.returncode:
                raise NoEngineError(f"apt-get {' '.join(step)} failed: {done.stderr[-1000:]}")


def _daemon(folder: Path, data: Path) -> list[str]:
    return [
        *("dockerd", "--host", f"unix://{folder}/docker.sock", "--data-root", str(data)),
        *("--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"),
        *("--default-ulimit", "nofile=20000:20000"),
    ]


def _wait_for(process: subprocess.Popen[bytes], environment: dict[str, str], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while not _answers(environment):
        if process.poll() is not None or time.monotonic() > deadline:
            raise NoEngineError(f"dockerd does not start; its log:\n{log.read_text()[-2000:]}")
        time.sleep(0.5)


def _make_replacement(docker: Engine) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        packages = "--include=python3,python3-venv,ca-certificates"
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", packages, "bookworm", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NoEngineError(f"no base image: it cannot be pulled, and debootstrap fails: {done.stdout[-1000:]}")
        for left in ("var/lib/apt/lists", "var/cache/apt", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(Path(folder) / left)
        archive = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "import", "-", REPLACEMENT],
            stdin=archive.stdout,
            env=docker.environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        assert archive.wait() == 0
