"""Starting, finding and following runs."""

from pathlib import Path
from typing import Any

import pytest

from loraline.errors import ClusterAwayError, ClusterError, ConfigurationError
from pipelines.client import follow as follow_module
from pipelines.client.cluster_settings import cluster_settings
from pipelines.client.connection import Cluster, connect
from pipelines.client.follow import ClusterStep, follow, steps_of
from pipelines.client.runs import PipelineVersion, choose_version, find_run, list_runs, run_namespace, run_spec, submit
from pipelines.client.spec import arguments, step_labels
from pipelines.client.upload import upload
from tests.pipelines.client.server import Answer, KfpServer
from tests.pipelines.conftest import PARAMETERS


@pytest.fixture
def version(cluster: Cluster, package: Path) -> PipelineVersion:
    upload(cluster, package, "abc123")
    return choose_version(cluster)


def _start(cluster: Cluster, version: PipelineVersion, name: str = "first") -> Any:
    return submit(cluster, version, PARAMETERS, name)


def _follow(cluster: Cluster, run: Any, version: PipelineVersion) -> tuple[Any, list[tuple[str, str]], list[str]]:
    changes: list[ClusterStep] = []
    warnings: list[str] = []
    ended = follow(cluster, run, version.spec, changes.append, warnings.append, interval=0.001)
    return ended, [(step.name, step.state) for step in changes], warnings


def test_a_run_is_made_of_the_latest_version_with_the_recipes_arguments(
    cluster: Cluster, server: KfpServer, package: Path
) -> None:
    upload(cluster, package, "abc123")
    upload(cluster, package, "def456")
    latest = choose_version(cluster)
    assert latest.name == "def456"
    assert choose_version(cluster, name="abc123").name == "abc123"
    run = server.state.runs[_start(cluster, latest).run_id]
    assert run.pipeline_version_reference.pipeline_version_id == latest.version_id
    assert run.runtime_config.parameters == PARAMETERS
    assert server.state.experiments[run.experiment_id].display_name == "loraline"


def test_the_experiment_is_made_once(cluster: Cluster, server: KfpServer, version: PipelineVersion) -> None:
    _start(cluster, version)
    _start(cluster, version, "second")
    assert len(server.state.experiments) == 1


def test_a_service_account_is_passed_on(cluster: Cluster, server: KfpServer, version: PipelineVersion) -> None:
    run = submit(cluster, version, PARAMETERS, "x", service_account="pipeline-runner")
    assert server.state.runs[run.run_id].service_account == "pipeline-runner"


def test_where_there_are_several_users_runs_are_in_the_namespace(server: KfpServer, package: Path) -> None:
    server.multi_user = True
    cluster = connect(cluster_settings(server.url, namespace="team"))
    upload(cluster, package, "abc123")
    run = _start(cluster, choose_version(cluster))
    assert run_namespace(cluster, run) == "team"
    assert [one.run_id for one in list_runs(cluster)] == [run.run_id]
    assert [one.run_id for one in list_runs(cluster, experiment=None)] == [run.run_id]


def test_what_is_not_uploaded_is_said(cluster: Cluster, package: Path) -> None:
    with pytest.raises(ConfigurationError, match="loraline upload"):
        choose_version(cluster)
    upload(cluster, package, "abc123")
    with pytest.raises(ConfigurationError, match=r"no version 'xyz'. The latest are: abc123"):
        choose_version(cluster, name="xyz")


def test_arguments_are_checked_against_the_version_on_the_server(version: PipelineVersion) -> None:
    assert arguments(version.spec, {"rank": 8}, ["seed=7"], "v") == {"rank": 8, "seed": 7}
    name = next(n for n, p in version.spec["root"]["inputDefinitions"]["parameters"].items() if "STRING" in str(p))
    assert arguments(version.spec, {}, [f"{name}=3"], "v") == {name: "3"}
    with pytest.raises(ConfigurationError) as error:
        arguments(version.spec, {"gone": 1}, ["rnak=8", "rank", "seed=[1"], "abc123")
    for words in (
        "'abc123'",
        "'gone'",
        "Did you mean 'rank'",
        "'rank': write name=value",
        "'seed=[1'",
        "loraline upload",
    ):
        assert words in str(error.value)


def test_a_package_with_kubernetes_settings_is_read_as_well(
    cluster: Cluster, version: PipelineVersion, package: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both.yaml"
    both.write_text(package.read_text() + "\n---\nplatforms:\n  kubernetes: {deploymentSpec: {}}\n")
    upload(cluster, both, "with-platform")
    assert choose_version(cluster, name="with-platform").spec == version.spec


def test_steps_are_in_the_order_in_which_they_run_and_conditions_are_looked_into(version: PipelineVersion) -> None:
    labels = step_labels(version.spec)
    names = list(labels)
    assert names[0] == "resolve-recipe"
    assert (
        names.index("train-lora") < names.index("merge-adapter") < names.index("gate") < names.index("register-model")
    )
    assert [labels[name] for name in names if name.startswith("evaluate-model")] == [
        "evaluate base",
        "evaluate champion",
        "evaluate tuned",
    ]
    assert not any(name.startswith("condition") for name in names)


def test_a_run_is_followed_step_by_step_to_its_end(
    cluster: Cluster, server: KfpServer, version: PipelineVersion
) -> None:
    run = _start(cluster, version)
    done = {"resolve-recipe-driver": "SUCCEEDED", "resolve-recipe": "SUCCEEDED", "executor": "SUCCEEDED"}
    server.state.frames = [
        ("PENDING", {}),
        ("RUNNING", {"resolve-recipe-driver": "RUNNING"}),
        ("RUNNING", {"resolve-recipe-driver": "SUCCEEDED", "resolve-recipe": "RUNNING"}),
        ("RUNNING", {**done, "load-model-driver": "SUCCEEDED", "load-model": "RUNNING"}),
        ("SUCCEEDED", {**done, **dict.fromkeys(step_labels(version.spec), "SUCCEEDED"), "register-model": "SKIPPED"}),
    ]
    ended, changes, warnings = _follow(cluster, run, version)
    assert ended.state == "SUCCEEDED"
    assert [s for n, s in changes if n == "resolve-recipe"] == ["starting", "running", "succeeded"]
    assert [s for n, s in changes if n == "load-model"] == ["running", "succeeded"]
    assert ("register-model", "skipped") in changes
    assert len(changes) == len(set(changes))
    assert warnings == []
    assert {step.seconds for step in steps_of(ended, version.spec) if step.state == "succeeded"} == {12.0}


def test_a_failure_is_put_down_to_its_step_and_the_rest_is_skipped(
    cluster: Cluster, server: KfpServer, version: PipelineVersion
) -> None:
    run = _start(cluster, version)
    server.state.frames = [("FAILED", {"resolve-recipe": "SUCCEEDED", "load-model": "FAILED"})]
    ended, changes, _ = _follow(cluster, run, version)
    assert ended.state == "FAILED"
    assert dict(changes)["load-model"] == "failed"
    assert dict(changes)["train-lora"] == "skipped"


def test_a_step_that_could_not_be_prepared_has_failed(
    cluster: Cluster, server: KfpServer, version: PipelineVersion
) -> None:
    run = _start(cluster, version)
    server.state.frames = [("FAILED", {"resolve-recipe-driver": "FAILED"})]
    assert dict(_follow(cluster, run, version)[1])["resolve-recipe"] == "failed"


def test_watching_outlasts_a_server_that_is_away_for_a_while(
    cluster: Cluster, server: KfpServer, version: PipelineVersion
) -> None:
    run = _start(cluster, version)
    server.refuse("GET /apis/v2beta1/runs/", Answer(503, html="upgrading"), times=4)
    server.state.frames = [("SUCCEEDED", {})]
    ended, _, warnings = _follow(cluster, run, version)
    assert ended.state == "SUCCEEDED"
    assert len(warnings) == 1
    assert "the run does not depend on it" in warnings[0]


def test_watching_ends_where_the_server_stays_away_or_the_login_expires(
    cluster: Cluster, server: KfpServer, version: PipelineVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _start(cluster, version)
    server.refuse("GET /apis/v2beta1/runs/", Answer(401, {"code": 16, "message": "expired"}))
    with pytest.raises(ClusterError, match="requires a login"):
        _follow(cluster, run, version)
    monkeypatch.setattr(follow_module, "_PATIENCE", 0.0)
    server.refuse("GET /apis/v2beta1/runs/", Answer(503, html=""), times=3)
    with pytest.raises(ClusterAwayError):
        _follow(cluster, run, version)


def test_a_run_is_found_by_its_id_its_first_letters_or_as_the_latest(
    cluster: Cluster, version: PipelineVersion
) -> None:
    first, second = _start(cluster, version), _start(cluster, version, "second")
    assert find_run(cluster, first.run_id).run_id == first.run_id
    assert find_run(cluster, first.run_id[:12]).run_id == first.run_id
    assert find_run(cluster, "latest").run_id == second.run_id
    assert run_spec(cluster, first) == version.spec
    for wanted, words in (("zzz", "no run"), ("", "2 runs")):
        with pytest.raises(ConfigurationError, match=words):
            find_run(cluster, wanted)
    with pytest.raises(ClusterError, match="not found"):
        find_run(cluster, "0" * 36)


def test_runs_are_listed_over_many_pages_newest_first(cluster: Cluster, version: PipelineVersion) -> None:
    assert list_runs(cluster) == []
    ids = [_start(cluster, version, str(number)).run_id for number in range(105)]
    assert [one.run_id for one in list_runs(cluster, limit=103)] == ids[::-1][:103]
