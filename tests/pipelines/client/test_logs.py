"""A step's log, through kubectl."""

import json
from pathlib import Path

import pytest

from loraline.errors import ClusterError, ConfigurationError
from pipelines.client.logs import find_step, kubectl_commands, pods_of_step, show_log

_FAKE = """#!/bin/sh
echo "$@" >> {folder}/asked
case "$1 $2" in
  "get pods") cat {folder}/pods.json ;;
  *) echo "the log of $4" ;;
esac
exit {status}
"""


def _pod(name: str, node: str, born: str) -> dict[str, object]:
    annotations = {"workflows.argoproj.io/node-name": node}
    return {"metadata": {"name": name, "creationTimestamp": born, "annotations": annotations}}


_PODS = json.dumps(
    {
        "items": [
            _pod("wf-retry-2", "wf.root.train-lora.executor(1)", "2026-11-20T12:20:00Z"),
            _pod("wf-retry-1", "wf.root.train-lora.executor(0)", "2026-11-20T12:10:00Z"),
            _pod("wf-driver-1", "wf.root.train-lora-driver", "2026-11-20T12:00:00Z"),
            _pod("wf-driver-2", "wf.root.gate-driver", "2026-11-20T12:30:00Z"),
            _pod("wf-nested", "wf.root.condition-branches-1.condition-2.report.executor", "2026-11-20T12:40:00Z"),
            _pod("wf-other", "wf.root.condition-branches-1.condition-3.report-2.executor", "2026-11-20T12:50:00Z"),
            {"metadata": {"name": "bare", "creationTimestamp": "2026-11-20T12:00:00Z"}},
        ]
    }
)


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that knows the pods above; what it was asked is in the file `asked` of the folder."""
    (tmp_path / "pods.json").write_text(_PODS)
    _write_kubectl(tmp_path, 0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def _write_kubectl(folder: Path, status: int) -> None:
    (folder / "kubectl").write_text(_FAKE.format(folder=folder, status=status))
    (folder / "kubectl").chmod(0o755)


@pytest.mark.parametrize(
    ("step", "pods"),
    [
        ("train-lora", ["wf-retry-1", "wf-retry-2"]),
        ("gate", ["wf-driver-2"]),
        ("report", ["wf-nested"]),
        ("report-2", ["wf-other"]),
        ("lora", []),
    ],
)
def test_a_steps_pods_are_its_attempts_or_what_prepared_it(step: str, pods: list[str]) -> None:
    assert pods_of_step(_PODS, step) == pods


def test_the_last_attempts_log_is_shown(kubectl: Path, capfd: pytest.CaptureFixture[str]) -> None:
    show_log("team", "run-1", "train-lora", follow=True)
    assert capfd.readouterr().out == "the log of wf-retry-2\n"
    listing, log = (kubectl / "asked").read_text().splitlines()
    assert listing == "get pods -n team -l pipeline/runid=run-1 -o json"
    assert log == "logs -n team wf-retry-2 -c main -f"


def test_a_step_without_pods_is_explained(kubectl: Path) -> None:
    with pytest.raises(ClusterError, match="has not started, its outcome came from the cache"):
        show_log("team", "run-1", "merge-adapter", follow=False)


def test_kubectls_failure_is_reported(kubectl: Path) -> None:
    _write_kubectl(kubectl, 1)
    with pytest.raises(ClusterError, match="cannot list the run's pods in team"):
        show_log("team", "run-1", "train-lora", follow=False)


def test_without_kubectl_the_commands_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="does not serve logs") as error:
        show_log("team", "run-1", "train-lora", follow=False)
    assert kubectl_commands("team", "run-1", "train-lora") in str(error.value)
    assert "pipeline/runid=run-1" in str(error.value)


def test_a_step_is_named_as_people_and_as_the_engine_do() -> None:
    labels = {"train-lora": "train-lora", "evaluate-model-2": "evaluate tuned"}
    assert find_step("train_lora", labels) == "train-lora"
    assert find_step("evaluate tuned", labels) == "evaluate-model-2"
    with pytest.raises(ConfigurationError, match="no step 'nonsense'; there are: train-lora, evaluate-model-2"):
        find_step("nonsense", labels)
