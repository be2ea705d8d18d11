"""`loraline upload`, `submit`, `runs`, `logs` and `stop`, against the double of the KFP server."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import cluster_commands, display
from tests.pipelines.cli.conftest import loraline
from tests.pipelines.client.server import LOGIN_PAGE, Answer, KfpServer


def _run_id(server: KfpServer) -> str:
    return next(reversed(server.state.runs))


def test_upload_compiles_and_names_the_version_after_the_revision(
    server: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_commands, "_PACKAGE", tmp_path / "build/finetune.yaml")
    revision = cluster_commands.code_revision()
    done = loraline("upload", "--endpoint", server.url)
    assert done.exit_code == 0, done.output
    (version,) = server.state.versions.values()
    assert version.name.startswith(revision.commit)
    assert ("-dirty-" in version.name) == ("uncommitted" in done.output) == revision.dirty
    assert "uploaded" in done.output
    assert "already there" in loraline("upload", "--endpoint", server.url).output
    assert len(server.state.versions) == 1


def test_submit_follows_to_success(ready: KfpServer, recipe: str) -> None:
    ready.state.frames = [("SUCCEEDED", {"resolve-recipe": "SUCCEEDED", "evaluate-model": "SUCCEEDED"})]
    done = loraline("submit", recipe, "training.rank=4", "--name", "my run")
    assert done.exit_code == 0, done.output
    run = ready.state.runs[_run_id(ready)]
    assert run.display_name == "my run"
    assert run.runtime_config.parameters["rank"] == 4
    for words in ("version abc123", "evaluate-model (evaluate base)", "12 s", f"/#/runs/details/{run.run_id}"):
        assert words in done.output


def test_submit_of_a_run_that_fails_exits_with_1_and_names_the_log(ready: KfpServer, recipe: str) -> None:
    ready.state.frames = [("FAILED", {"resolve-recipe": "SUCCEEDED", "load-model": "FAILED"})]
    done = loraline("submit", recipe)
    assert done.exit_code == 1
    assert f"loraline logs {_run_id(ready)[:8]} load-model" in done.output


def test_submit_of_a_run_that_is_stopped_exits_with_1(ready: KfpServer, recipe: str) -> None:
    ready.state.frames = [("CANCELED", {})]
    assert loraline("submit", recipe).exit_code == 1


def test_submit_without_following_returns_at_once(ready: KfpServer, recipe: str) -> None:
    done = loraline("submit", recipe, "--no-follow", "-p", "rank=32")
    assert done.exit_code == 0, done.output
    run = ready.state.runs[_run_id(ready)]
    assert run.state == "PENDING"
    assert run.runtime_config.parameters["rank"] == 32


def test_ctrl_c_stops_watching_and_not_the_run(ready: KfpServer, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(display, "follow", interrupted)
    done = loraline("submit", recipe)
    assert done.exit_code == 130
    assert f"loraline runs {_run_id(ready)[:8]} --follow" in done.output
    assert not ready.asked(f"POST /apis/v2beta1/runs/{_run_id(ready)}:terminate")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["submit", "RECIPE", "training.rank=0"], "training.rank = 0"),
        (["submit", "RECIPE", "--version", "none"], "no version 'none'"),
        (["submit", "RECIPE", "-p", "rnak=3"], "Did you mean 'rank'"),
        (["submit", "RECIPE", "--pipeline", "other"], "'other' is not on the server"),
        (["stop", "latest"], "matches no run"),
    ],
)
def test_what_is_refused_exits_with_2_and_starts_nothing(
    ready: KfpServer, recipe: str, words: list[str], message: str
) -> None:
    done = loraline(*(recipe if word == "RECIPE" else word for word in words))
    assert done.exit_code == 2
    assert message in done.output
    assert not ready.state.runs


def test_a_missing_login_exits_with_2(ready: KfpServer, recipe: str) -> None:
    ready.refuse("GET /apis/v2beta1/healthz", Answer(200, html=LOGIN_PAGE))
    done = loraline("submit", recipe)
    assert done.exit_code == 2
    assert "requires a login" in done.output


def test_runs_are_listed_and_shown(ready: KfpServer, recipe: str) -> None:
    assert "no runs yet" in loraline("runs").output
    loraline("submit", recipe, "--no-follow", "--name", "[one]")
    listed = loraline("runs").output
    assert "[one]" in listed
    assert _run_id(ready)[:8] in listed
    ready.state.frames = [("RUNNING", {"resolve-recipe": "SUCCEEDED", "load-model": "RUNNING"})]
    shown = loraline("runs", "latest")
    assert shown.exit_code == 0, shown.output
    for step, state in {"resolve-recipe": "succeeded", "load-model": "running", "gate": "waiting"}.items():
        assert any(line.split()[:2] == [step, state] for line in shown.output.splitlines())


def test_a_run_can_be_watched_again(ready: KfpServer, recipe: str) -> None:
    loraline("submit", recipe, "--no-follow")
    ready.state.frames = [("RUNNING", {}), ("FAILED", {})]
    assert loraline("runs", "latest", "--follow").exit_code == 1


def test_stop_ends_a_run_once(ready: KfpServer, recipe: str) -> None:
    loraline("submit", recipe, "--no-follow")
    assert "stopping" in loraline("stop", "latest").output
    assert ready.state.runs[_run_id(ready)].state == "CANCELING"
    ready.state.frames = [("CANCELED", {})]
    assert "has already ended: canceled" in loraline("stop", _run_id(ready)).output


def test_logs_prints_the_kubectl_commands(ready: KfpServer, recipe: str) -> None:
    loraline("submit", recipe, "--no-follow")
    done = loraline("logs", "latest", "train_lora", "--command")
    assert done.exit_code == 0, done.output
    assert f"-n kubeflow -l pipeline/runid={_run_id(ready)}" in done.output
    assert loraline("logs", "latest", "nonsense").exit_code == 2


@pytest.mark.parametrize("words", [[], ["upload"], ["submit"], ["runs"], ["logs"], ["stop"], ["schedule", "create"]])
def test_every_command_has_help(words: list[str]) -> None:
    done = loraline(*words, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_help_does_not_wait_for_kfp() -> None:
    code = "import sys, pipelines.cli.app as _; print({'kfp', 'kfp_server_api', 'kubernetes'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_base_that_cannot_be_trained_is_refused_before_anything_is_started(
    ready: KfpServer, recipe: str, medical_model: Path
) -> None:
    done = loraline("submit", recipe, f"model.source={medical_model}", "training.target_modules=[q_prj]")
    assert done.exit_code == 2
    assert "no linear layer is called 'q_prj'; this model has" in " ".join(done.output.split())
    assert not ready.state.runs


def test_a_base_that_this_machine_cannot_read_is_submitted_with_a_note(
    ready: KfpServer, recipe: str, s3: dict[str, str]
) -> None:
    done = loraline("submit", recipe, "model.source=s3://of-the-cluster/base", "--no-follow")
    assert done.exit_code == 0, done.output
    assert "the base was not looked at" in done.output
    assert len(ready.state.runs) == 1
