"""The run tree, and what happens to it when the server is away, against real stores and a real server."""

import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from loraline import tracking
from loraline.errors import StorageError
from loraline.tracking import mlflow_runs
from loraline.tracking import tracker as tracker_module


def runs(uri: str, experiment: str = "tests") -> list[Run]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def by_step(uri: str) -> dict[str, Run]:
    return {run.data.tags[mlflow_runs.STEP_TAG]: run for run in runs(uri)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_steps_of_a_run_form_one_tree(mlflow_store: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p>hello</p>")
    parent = tracking.parent_run()
    parent.tags({"verdict": "promote"})
    with tracking.child_run("train_lora") as tracker:
        tracker.params({"rank": 16})
        for step in range(950):
            tracker.metrics({"loss": 2.0 / (step + 1), "learning_rate": 1e-4}, step=step)
        tracker.artifact(page)
    with tracking.child_run("evaluate base") as tracker:
        tracker.metrics({"loss": 3.0})
    parent.close("FINISHED")

    found = by_step(mlflow_store)
    assert set(found) == {"pipeline", "train_lora", "evaluate base"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["pipeline"].data.tags["verdict"] == "promote"
    assert found["pipeline"].info.run_name == "test-run"
    root = found["pipeline"].info.run_id
    assert {found[name].data.tags["mlflow.parentRunId"] for name in ("train_lora", "evaluate base")} == {root}
    client = MlflowClient(mlflow_store)
    train = found["train_lora"].info.run_id
    assert len(client.get_metric_history(train, "loss")) == 950
    assert found["train_lora"].data.params == {"rank": "16"}
    assert [item.path for item in client.list_artifacts(train)] == ["page.html"]
    assert tracker.unsent == {}


def test_artifacts_lie_where_the_caller_says(
    mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORALINE_ARTIFACTS", (tmp_path / "kept").as_uri())
    page = tmp_path / "page.html"
    page.write_text("<p>hello</p>")
    parent = tracking.parent_run()
    parent.artifact(page, "report")
    parent.close()
    assert [path.name for path in (tmp_path / "kept").rglob("*.html")] == ["page.html"]


def test_a_failed_step_fails_the_tree_and_its_retry_takes_the_same_run_up(mlflow_store: str) -> None:
    with pytest.raises(ValueError, match="no gradient"), tracking.child_run("train_lora"):
        raise ValueError("no gradient")
    failed = by_step(mlflow_store)
    assert {run.info.status for run in failed.values()} == {"FAILED"}
    assert failed["train_lora"].data.tags["loraline.error"] == "ValueError: no gradient"

    with tracking.child_run("train_lora"):
        pass
    tracking.parent_run().close("FINISHED")
    again = by_step(mlflow_store)
    assert len(runs(mlflow_store)) == 2
    assert {run.info.status for run in again.values()} == {"FINISHED"}
    assert again["train_lora"].info.run_id == failed["train_lora"].info.run_id


def test_a_run_that_is_given_is_adopted(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient(mlflow_store)
    given = client.create_run(client.create_experiment("theirs")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with tracking.child_run("train_lora") as tracker:
        tracker.metrics({"loss": 1.0})
    parent = tracking.parent_run()
    assert parent.run_id() == given
    parent.close("FINISHED")
    found = {run.info.run_id: run for run in runs(mlflow_store, "theirs")}
    assert len(found) == 2
    assert found[given].info.status == "RUNNING", "whoever made the run ends it"
    assert not runs(mlflow_store)


def test_kfp_run_of_a_task_is_the_steps_run(mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient(mlflow_store)
    experiment = client.create_experiment("kfp")
    root = client.create_run(experiment).info.run_id
    task = client.create_run(experiment, tags={"mlflow.parentRunId": root}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    with tracking.child_run("train_lora") as tracker:
        assert tracker.run_id() == task
        tracker.metrics({"loss": 1.5})
    assert tracking.parent_run().run_id() == root
    assert len(runs(mlflow_store, "kfp")) == 2
    assert client.get_run(task).data.metrics == {"loss": 1.5}


def test_steps_that_begin_at_once_share_one_parent(mlflow_store: str) -> None:
    tracking.parent_run().close()  # the database and the experiment
    ids: list[str] = []

    def begin(name: str) -> None:
        with tracking.child_run(name) as tracker:
            tracker.metrics({"seconds": 1.0})
            tracker.run_id()
        ids.append(tracker._place.parent_id if tracker._place else "")

    threads = [threading.Thread(target=begin, args=(f"step {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    assert len(runs(mlflow_store)) == 5


def test_without_a_server_nothing_is_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with tracking.child_run("train_lora") as tracker:
        tracker.metrics({"loss": 1.0})
        tracker.artifact(Path("nowhere"))
    assert tracker.unsent == {}
    assert tracker.run_id() == ""
    with pytest.raises(StorageError, match="MLFLOW_TRACKING_URI"):
        tracking.connect()


def test_what_the_server_refuses_is_set_aside_and_the_rest_goes(mlflow_store: str, tmp_path: Path) -> None:
    with tracking.child_run("train_lora") as tracker:
        tracker.params({"rank": 16})
    with tracking.child_run("train_lora") as tracker:
        tracker.params({"rank": 8})
        tracker.artifact(tmp_path / "nowhere.html")
        tracker.metrics({"loss": 1.0})
    assert tracker.unsent == {"params": {"rank": "8"}, "artifacts": [str(tmp_path / "nowhere.html")]}
    assert by_step(mlflow_store)["train_lora"].data.metrics == {"loss": 1.0}


def test_a_server_that_is_away_costs_seconds_and_loses_nothing(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(tracker_module, "_SECONDS_TO_CLOSE", 1.0)
    with tracking.child_run("train_lora") as tracker:
        tracker.metrics({"loss": 1.0}, step=3)
        time.sleep(1.5)
    said = capsys.readouterr().out
    assert said.count("is away") == 1
    assert "MLflow has not got 1 metrics of train_lora" in said
    (name, value, _, step), *more = tracker.unsent["metrics"]
    assert (name, value, step, more) == ("loss", 1.0, 3, [])


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """A real tracking server; its port."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI")
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(2400):  # it imports a great deal, on a machine that may be busy
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            raise AssertionError((folder / "server.log").read_text())
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class _Forward(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Way)
        with socket.create_connection(("127.0.0.1", self.server.target)) as there:
            answer = threading.Thread(target=self.pipe, args=(there, self.request), daemon=True)
            answer.start()
            self.pipe(self.request, there)

    @staticmethod
    def pipe(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Way(socketserver.ThreadingTCPServer):
    """The way to a server. While it is closed the server is as good as dead: connections break and are refused."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, target: int) -> None:
        super().__init__(("127.0.0.1", port), _Forward)
        self.target = target
        self.open: list[socket.socket] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.append(request)
        super().process_request(request, client_address)

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in self.open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def test_a_server_that_dies_and_comes_back_gets_every_figure(
    mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "_SECONDS_TO_CLOSE", 60.0)
    with server(tmp_path) as target:
        port = free_port()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        way = Way(port, target)
        with tracking.child_run("train_lora") as tracker:
            tracker.metrics({"loss": 3.0}, step=0)
            assert tracker.run_id(60.0)
            way.close()
            tracker.metrics({"loss": 2.0}, step=1)
            time.sleep(2.5)
            assert tracker.unsent, "nobody is there to take it"
            way = Way(port, target)
            tracker.metrics({"loss": 1.0}, step=2)
        assert tracker.unsent == {}
        history = MlflowClient(f"http://127.0.0.1:{target}").get_metric_history(tracker.run_id(), "loss")
        assert [(metric.step, metric.value) for metric in history] == [(0, 3.0), (1, 2.0), (2, 1.0)]
        way.close()
