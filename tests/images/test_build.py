"""Which build of torch the gpu image gets, by what pip answers with and without an index of CPU builds."""

import subprocess
from pathlib import Path

import pytest

from images import build

PIN = next(
    line.split()[0]
    for line in (build.ROOT / "images/gpu/torch.lock").read_text().splitlines()
    if line.startswith("torch==")
)
VERSION = PIN.removeprefix("torch==")
WHEEL = f"torch-{VERSION}+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
ONLY_CUDA = f"""\
ERROR: Could not find a version that satisfies the requirement {PIN}+cpu (from versions: 2.12.1, {VERSION}, 2.15.0)
ERROR: No matching distribution found for {PIN}+cpu
"""
NO_INDEX = f"""\
WARNING: Retrying after connection broken by 'NewConnectionError(...)': /simple/torch/
ERROR: Could not find a version that satisfies the requirement {PIN}+cpu (from versions: none)
ERROR: No matching distribution found for {PIN}+cpu
"""
OTHER_VERSIONS = NO_INDEX.replace("none", "2.12.1, 2.15.0")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run, once `pip_says` has set their answer; wheels go to a folder of the test's own."""
    monkeypatch.setattr(build, "WHEELS", tmp_path / "wheels")
    return []


def pip_says(monkeypatch: pytest.MonkeyPatch, asked: list[list[str]], errors: str) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, int(bool(errors)), "", errors)

    monkeypatch.setattr(build.subprocess, "run", run)


@pytest.mark.parametrize("wanted", ["cpu", "cpu-or-cuda"])
def test_torch_for_cpus_is_taken_where_the_index_has_it(
    wanted: str, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pip_says(monkeypatch, asked, "")
    assert build.choose_torch(wanted) == "cpu"
    (command,) = asked
    assert command[-1] == f"{PIN}+cpu"
    assert "download" in command


def test_a_wheel_that_is_there_is_not_fetched(asked: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    pip_says(monkeypatch, asked, ONLY_CUDA)
    build.WHEELS.mkdir()
    (build.WHEELS / WHEEL).touch()
    assert build.choose_torch("cpu") == "cpu"
    assert asked == []


def test_cuda_stands_in_where_the_index_has_no_other_and_it_is_said(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pip_says(monkeypatch, asked, ONLY_CUDA)
    assert build.choose_torch("cpu-or-cuda") == "cuda"
    assert f"note: the package index has no {PIN}+cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wanted", "errors"), [("cpu", ONLY_CUDA), ("cpu-or-cuda", NO_INDEX), ("cpu-or-cuda", OTHER_VERSIONS)]
)
def test_nothing_stands_in_where_cpus_were_asked_for_or_no_index_answers(
    wanted: str, errors: str, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pip_says(monkeypatch, asked, errors)
    with pytest.raises(SystemExit, match="PIP_EXTRA_INDEX_URL"):
        build.choose_torch(wanted)


def test_cuda_asks_pip_for_nothing(asked: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    pip_says(monkeypatch, asked, ONLY_CUDA)
    assert build.choose_torch("cuda") == "cuda"
    assert asked == []


@pytest.mark.parametrize(("wanted", "argument"), [("cuda", "TORCH=cuda"), ("cpu-or-cuda", "TORCH=cuda")])
def test_the_choice_is_a_build_argument(
    wanted: str, argument: str, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pip_says(monkeypatch, asked, ONLY_CUDA)
    monkeypatch.setattr(build, "version", lambda: "0.1.0")
    monkeypatch.setattr(build, "revision", lambda: "abc")
    commands: list[list[str]] = []
    monkeypatch.setattr(build, "_run", commands.append)
    monkeypatch.setattr(build, "_pip_settings", dict)
    build.build("gpu", ["loraline-gpu:test"], torch=wanted)
    assert f"--build-arg={argument}" in commands[0]
