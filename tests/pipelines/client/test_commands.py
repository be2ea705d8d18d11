"""The commands, as a person gives them, against the double."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from pipelines.cli import cluster_commands, display
from tests.pipelines.client.conftest import RECIPE
from tests.pipelines.client.server import LOGIN_PAGE, Answer, KfpServer


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A recipe file."""
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(RECIPE))
    return str(tmp_path / "mine.yaml")


@pytest.fixture
def ready(server: KfpServer, package: Path, monkeypatch: pytest.MonkeyPatch) -> KfpServer:
    """A server that the environment names and that has the pipeline."""
    monkeypatch.setenv("KFP_ENDPOINT", server.url)
    assert _call("upload", package, "--version", "abc123").exit_code == 0
    return server


def _call(*words: object) -> Result:
    return CliRunner().invoke(cluster_commands.app, [str(word) for word in words])


def _run_id(server: KfpServer) -> str:
    return next(reversed(server.state.runs))


def test_upload_compiles_and_names_the_version_after_the_revision(
    server: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_commands, "_PACKAGE", tmp_path / "build/finetune.yaml")
    revision = cluster_commands.code_revision()
    done = _call("upload", "--endpoint", server.url)
    assert done.exit_code == 0, done.output
    (version,) = server.state.versions.values()
    assert version.name.startswith(revision.commit)
    assert ("-dirty-" in version.name) == ("not committed" in done.output) == revision.dirty
    assert "uploaded" in done.output
    assert "already there" in _call("upload", "--endpoint", server.url).output
    assert len(server.state.versions) == 1


def test_submit_follows_to_success(ready: KfpServer, recipe: str) -> None:
    ready.state.frames = [("SUCCEEDED", {"resolve-recipe": "SUCCEEDED", "evaluate-model": "SUCCEEDED"})]
    done = _call("submit", recipe, "training.rank=4", "--name", "my run")
    assert done.exit_code == 0, done.output
    run = ready.state.runs[_run_id(ready)]
    assert run.display_name == "my run"
    assert run.runtime_config.parameters["rank"] == 4
    for words in ("version abc123", "evaluate-model (evaluate base)", "12 s", f"/#/runs/details/{run.run_id}"):
        assert words in done.output


def test_submit_of_a_run_that_fails_exits_with_1_and_names_the_log(ready: KfpServer, recipe: str) -> None:
    ready.state.frames = [("FAILED", {"resolve-recipe": "SUCCEEDED", "load-model": "FAILED"})]
    done = _call("submit", recipe)
    assert done.exit_code == 1
    assert f"loraline logs {_run_id(ready)[:8]} load-model" in done.output


def test_submit_of_a_run_that_is_stopped_exits_with_1(ready: KfpServer, recipe: str) -> None:
    ready.state.frames = [("CANCELED", {})]
    assert _call("submit", recipe).exit_code == 1


def test_submit_without_following_returns_at_once(ready: KfpServer, recipe: str) -> None:
    done = _call("submit", recipe, "--no-follow", "-p", "rank=32")
    assert done.exit_code == 0, done.output
    run = ready.state.runs[_run_id(ready)]
    assert run.state == "PENDING"
    assert run.runtime_config.parameters["rank"] == 32


def test_ctrl_c_stops_watching_and_not_the_run(ready: KfpServer, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(display, "follow", interrupted)
    done = _call("submit", recipe)
    assert done.exit_code == 130
    assert f"loraline runs {_run_id(ready)[:8]} --follow" in done.output
    assert not ready.asked(f"POST /apis/v2beta1/runs/{_run_id(ready)}:terminate")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["submit", "RECIPE", "training.rank=0"], "training.rank = 0"),
        (["submit", "RECIPE", "--version", "none"], "no version 'none'"),
        (["submit", "RECIPE", "-p", "rnak=3"], "Did you mean 'rank'"),
        (["submit", "RECIPE", "--pipeline", "other"], "'other' is not on the server"),
        (["schedule", "create", "nightly", "RECIPE", "--cron", "0 2 * * *"], "'0 0 2 * * *'"),
        (["schedule", "remove", "nightly"], "no schedule 'nightly'"),
        (["stop", "latest"], "means no run"),
    ],
)
def test_what_is_refused_exits_with_2_and_starts_nothing(
    ready: KfpServer, recipe: str, words: list[str], said: str
) -> None:
    done = _call(*(recipe if word == "RECIPE" else word for word in words))
    assert done.exit_code == 2
    assert said in done.output
    assert not ready.state.runs
    assert not ready.state.recurring


def test_a_login_that_is_wanted_exits_with_2(ready: KfpServer, recipe: str) -> None:
    ready.refuse("GET /apis/v2beta1/healthz", Answer(200, html=LOGIN_PAGE))
    done = _call("submit", recipe)
    assert done.exit_code == 2
    assert "wants a login" in done.output


def test_runs_are_listed_and_shown(ready: KfpServer, recipe: str) -> None:
    assert "no runs yet" in _call("runs").output
    _call("submit", recipe, "--no-follow", "--name", "[one]")
    listed = _call("runs").output
    assert "[one]" in listed
    assert _run_id(ready)[:8] in listed
    ready.state.frames = [("RUNNING", {"resolve-recipe": "SUCCEEDED", "load-model": "RUNNING"})]
    shown = _call("runs", "latest")
    assert shown.exit_code == 0, shown.output
    for step, state in {"resolve-recipe": "succeeded", "load-model": "running", "gate": "waiting"}.items():
        assert any(line.split()[:2] == [step, state] for line in shown.output.splitlines())


def test_a_run_can_be_watched_again(ready: KfpServer, recipe: str) -> None:
    _call("submit", recipe, "--no-follow")
    ready.state.frames = [("RUNNING", {}), ("FAILED", {})]
    assert _call("runs", "latest", "--follow").exit_code == 1


def test_stop_ends_a_run_once(ready: KfpServer, recipe: str) -> None:
    _call("submit", recipe, "--no-follow")
    assert "stopping" in _call("stop", "latest").output
    assert ready.state.runs[_run_id(ready)].state == "CANCELING"
    ready.state.frames = [("CANCELED", {})]
    assert "has ended already: canceled" in _call("stop", _run_id(ready)).output


def test_logs_tell_the_commands(ready: KfpServer, recipe: str) -> None:
    _call("submit", recipe, "--no-follow")
    done = _call("logs", "latest", "train_lora", "--command")
    assert done.exit_code == 0, done.output
    assert f"-n kubeflow -l pipeline/runid={_run_id(ready)}" in done.output
    assert _call("logs", "latest", "nonsense").exit_code == 2


def test_schedules_are_made_listed_paused_resumed_and_removed(ready: KfpServer, recipe: str) -> None:
    assert "no schedules" in _call("schedule", "list").output
    made = _call("schedule", "create", "nightly", recipe, "training.rank=4", "--cron", "0 30 2 * * *")
    assert made.exit_code == 0, made.output
    assert "in UTC, unless" in made.output
    assert made.output.count("02:30:00") == 3
    assert "the latest version (now abc123)" in made.output
    assert _call("schedule", "create", "pinned", recipe, "--pin", "abc123").exit_code == 0
    (nightly, pinned) = ready.state.recurring.values()
    assert nightly.runtime_config.parameters["rank"] == 4
    assert pinned.trigger.cron_schedule.cron == "0 0 0 * * *"
    pinned.trigger.cron_schedule.cron = "0 2 * * *"  # as somebody may have typed it into the form
    assert "paused" in _call("schedule", "pause", "nightly").output
    rows = {line.split()[0]: line for line in _call("schedule", "list").output.splitlines()}
    assert "paused" in rows["nightly"]
    assert "latest" in rows["nightly"]
    assert "abc123" in rows["pinned"]
    assert "?" in rows["pinned"]
    assert _call("schedule", "resume", "nightly").exit_code == 0
    assert _call("schedule", "remove", "nightly").exit_code == 0
    assert list(ready.state.recurring.values()) == [pinned]


@pytest.mark.parametrize("words", [[], ["upload"], ["submit"], ["runs"], ["logs"], ["stop"], ["schedule", "create"]])
def test_every_command_teaches(words: list[str]) -> None:
    done = _call(*words, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_help_does_not_wait_for_kfp() -> None:
    code = (
        "import sys, pipelines.cli.cluster_commands as _; "
        "print({'kfp', 'kfp_server_api', 'kubernetes'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
