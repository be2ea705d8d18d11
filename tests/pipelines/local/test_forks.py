"""Steps that are forked from one process: each as it would run by KFP's own command, and apart from the others."""

import contextlib
import json
import os
import sys
from pathlib import Path

import pytest
from kfp import dsl
from kfp.local import subprocess_task_handler as kfp_runner

from pipelines.local import forks


@dsl.component(base_image="any", install_kfp_package=False)
def scribble(word: str) -> str:
    """Leave a mark in a module, and tell which marks are there."""
    import decimal
    import os

    marks = vars(decimal).setdefault("marks", [])
    marks.append(word)
    print("in the log:", word, flush=True)
    return f"{','.join(marks)} {os.environ.get('FROM_KFP')} {os.environ['_KFP_RUNTIME']}"


@dsl.component(base_image="any", install_kfp_package=False)
def lack(word: str) -> str:
    """Import what is not there."""
    import no_such_module_at_all

    return no_such_module_at_all.say(word)


@dsl.component(base_image="any", install_kfp_package=False)
def die(word: str) -> str:
    """Be killed, as by a machine that is out of memory."""
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    return word


def run(component: object, word: str, folder: Path) -> tuple[int, str]:
    """Run a component by KFP's command for it, in whatever way kfp.local runs commands now: exit status and output."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    message = {"inputs": {"parameterValues": {"word": word}}, "outputs": {"outputFile": str(result)}}
    container = component.component_spec.implementation.container  # type: ignore[attr-defined]
    command = [*container.command, *(json.dumps(message) if one == "{{$}}" else str(one) for one in container.args)]
    command = kfp_runner.replace_python_executable(command, sys.executable)
    status = kfp_runner.run_local_subprocess(command, {"FROM_KFP": "set"})
    return status, json.loads(result.read_text())["parameterValues"]["Output"] if result.exists() else ""


@pytest.fixture(autouse=True)
def _untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the server the import of mlflow."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


only_where_it_is_safe = pytest.mark.skipif(not forks.is_safe(), reason="no Linux, or a GPU: steps are not forked here")


def test_kfp_itself_runs_a_step_so(tmp_path: Path) -> None:
    assert run(scribble, "one", tmp_path) == (0, "one set true")


@only_where_it_is_safe
def test_forked_it_runs_the_same_and_sees_nothing_of_the_one_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with forks.fork_steps():
        assert run(scribble, "one", tmp_path) == (0, "one set true")
        assert run(scribble, "two", tmp_path) == (0, "two set true")
    log = capfd.readouterr().out
    assert "in the log: one" in log
    assert "in the log: two" in log


@only_where_it_is_safe
def test_a_step_that_cannot_import_says_so_in_its_own_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with forks.fork_steps():
        assert run(lack, "x", tmp_path) == (1, "")
    assert "No module named 'no_such_module_at_all'" in capfd.readouterr().err


@only_where_it_is_safe
def test_a_step_that_is_killed_has_failed_and_the_next_one_runs(tmp_path: Path) -> None:
    with forks.fork_steps():
        assert run(die, "x", tmp_path) == (-9, "")
        assert run(scribble, "three", tmp_path)[0] == 0


def server_of_this_process() -> int:
    """Process id of the fork server; other tests run beside this one and have their own."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            is_ours = f"\nPPid:\t{os.getpid()}\n" in (process / "status").read_text()
            if is_ours and b"fork_server" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    [server] = found
    return server


@only_where_it_is_safe
def test_a_server_that_is_gone_fails_the_step(tmp_path: Path) -> None:
    with forks.fork_steps():
        assert run(scribble, "one", tmp_path)[0] == 0
        os.kill(server_of_this_process(), 9)
        assert run(scribble, "two", tmp_path) == (1, "")
    assert kfp_runner.run_local_subprocess.__module__ == kfp_runner.__name__
