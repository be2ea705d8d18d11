"""Data parallel training of several processes with gloo gives the results of a single process."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

import loraline
from loraline import tracking
from loraline.artifacts.training import TrainReport
from loraline.data.rows import Row
from loraline.errors import TrainingError
from loraline.training.config import TrainConfig
from loraline.training.distributed import _from_bytes, _to_bytes
from loraline.training.launch import launch
from loraline.training.train import train
from loraline.training.worker_processes import WorkerJob, train_in_processes
from tests.loraline.training.conftest import chat_row, write_rows

ModelMaker = Callable[..., Path]
# Twelve packed rows in a step, six for each of two processes; of 61 rows one is left for the last step of an epoch, in
# which the second process has nothing to do.
CONFIG = TrainConfig(
    rank=4,
    alpha=8,
    learning_rate=1e-2,
    max_length=256,
    batch_size=2,
    gradient_accumulation_steps=6,
    epochs=3,
    lr_scheduler_type="linear",
    save_steps=2,
    early_stopping_patience=9,
    nodes=2,
)
PROGRAM = (
    "import sys; from pathlib import Path; from loraline.training.config import TrainConfig;"
    "from loraline.training.launch import launch; model, data, out, kept, config = sys.argv[1:];"
    "launch(TrainConfig.model_validate_json(config), Path(model), Path(data), Path(out), kept)"
)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """61 rows, none of which shares a packed row with another, and eight to evaluate on."""
    folder = tmp_path_factory.mktemp("rows")
    return write_rows(folder, [chat_row(i) for i in range(61)], [chat_row(i) for i in range(100, 108)])


def adapter_bytes(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def assert_same(one: Path, other: Path) -> None:
    """Both trainings are equal up to the order in which floats were added."""
    report, expected = TrainReport.load(one), TrainReport.load(other)
    for here, there in zip(report.history, expected.history, strict=True):
        for name, value in there.model_dump(exclude={"tokens_per_second"}).items():
            expected_value = value if value is None else pytest.approx(value, rel=2e-5)
            assert getattr(here, name) == expected_value, (here.step, name)
    for name in ("tokens", "labelled_tokens", "steps", "kept_step", "epochs", "padding_fraction"):
        assert getattr(report, name) == pytest.approx(getattr(expected, name)), name
    weights, others = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    assert all(torch.allclose(weights[name], others[name], atol=1e-4) for name in others)


def assert_tracked_once(store: str, report: TrainReport) -> None:
    """The step has one child run, with the metrics of all ranks together.

    Metrics that the killed attempt had not sent are lost.
    """
    client = MlflowClient(store)
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "tests"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert runs.keys() == {"test-run", "train_lora"}
    assert runs["train_lora"].info.status == "FINISHED"
    losses = {m.step: m.value for m in client.get_metric_history(runs["train_lora"].info.run_id, "loss")}
    history = {metrics.step: metrics.loss for metrics in report.history if metrics.step}
    assert losses.items() <= history.items()
    assert losses.keys() >= {step for step in history if step > (report.resumed_from or 0)}


def workers(kept: Path) -> list[int]:
    """Return the ids of the processes that save checkpoints to a folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        jobs = [part for part in line.split("\0") if part.endswith("job.json")]
        if "training.worker" in line and jobs and str(kept) in Path(jobs[0]).read_text():
            found.append(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_two_killed_and_resumed_processes_equal_one(
    make_model: ModelMaker,
    dataset: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    mlflow_store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Processes end with the step that is killed; the next attempt resumes, to the results of a single process.

    While they train, nobody outside of this machine can connect to any of them.
    """
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")  # a setting for several nodes does not undo it
    kept = tmp_path / "kept"
    places = [str(make_model()), str(dataset), str(tmp_path / "two"), str(kept)]
    step = subprocess.Popen([sys.executable, "-c", PROGRAM, *places, CONFIG.model_dump_json()], env=os.environ)
    wait_until(lambda: bool(list(kept.rglob("*.pt"))), step)
    assert len(workers(kept)) == 2
    addresses = listening(psutil.Process(step.pid))
    assert len(addresses) == 2, "each listens for its peer"
    assert set().union(*addresses.values()) <= {"127.0.0.1", "::1"}
    step.send_signal(signal.SIGKILL)
    step.wait()
    wait_until(lambda: not workers(kept))
    assert not (tmp_path / "two" / "training.json").exists()

    with tracking.child_run("train_lora") as tracker:
        launch(CONFIG, make_model(), dataset, tmp_path / "two", str(kept), tracker=tracker)
    assert "18/18 steps" in capfd.readouterr().out
    alone = CONFIG.model_copy(update={"nodes": 1})
    train(alone, make_model(), dataset, tmp_path / "one")
    assert 0 < TrainReport.load(tmp_path / "two").resumed_from < TrainReport.load(tmp_path / "two").steps
    assert (TrainReport.load(tmp_path / "two").processes, TrainReport.load(tmp_path / "one").processes) == (2, 1)
    assert_same(tmp_path / "two", tmp_path / "one")
    assert_tracked_once(mlflow_store, TrainReport.load(tmp_path / "two"))

    # On another number of machines, from the same checkpoints: nothing is left to do.
    train(alone, make_model(), dataset, tmp_path / "fewer", str(kept))
    assert TrainReport.load(tmp_path / "fewer").resumed_from == TrainReport.load(tmp_path / "two").steps
    assert adapter_bytes(tmp_path / "fewer") == adapter_bytes(tmp_path / "two")


def listening(process: psutil.Process) -> dict[int, set[str]]:
    """The addresses on which a process and its descendants listen, of those that do."""
    found = {}
    for one in [process, *process.children(recursive=True)]:
        addresses = {s.laddr.ip for s in one.net_connections("inet") if s.status == psutil.CONN_LISTEN}
        if addresses:
            found[one.pid] = addresses
    return found


def test_what_is_received_is_never_unpickled(tmp_path: Path) -> None:
    """A peer that sends a pickle which would run a command gets an error, and no command."""

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    for content in (pickle.dumps(Attack()), bytes(_to_bytes(Attack()).tolist())):
        with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
            _from_bytes(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    assert not (tmp_path / "ran").exists()
    sent = {"step": 3, "weights": {"a": torch.ones(2)}, "none": None}
    assert str(_from_bytes(_to_bytes(sent))) == str(sent)


def test_no_module_unpickles_or_starts_a_rendezvous_that_does() -> None:
    """torch's object collectives and its elastic rendezvous (c10d, etcd) unpickle what a peer sends."""
    forbidden = (
        r"^\s*(import|from) (pickle|cloudpickle|dill|shelve|multiprocessing)",
        r"(broadcast|gather|scatter|recv|send)_object",
        r"torch\.distributed\.(run|elastic|rpc|launch)",
        r"weights_only=False",
    )
    unpickling = re.compile("|".join(forbidden), re.MULTILINE)
    for file in Path(loraline.__file__).parent.rglob("*.py"):
        text = file.read_text()
        assert not unpickling.search(text), file
        assert text.count("torch.load(") == text.count("weights_only=True"), file


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert process is None or process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_error_of_a_process_is_raised_by_its_starter(make_model: ModelMaker, tmp_path: Path) -> None:
    lost = Row.of(messages=[{"role": "user", "content": "q" * 500}, {"role": "assistant", "content": "y"}])
    dataset = write_rows(tmp_path / "data", [lost], [])
    job = WorkerJob(config=CONFIG, model=make_model(), dataset=dataset, output=tmp_path / "adapter")
    with pytest.raises(TrainingError, match="no token of the 1 training rows carries loss"):
        train_in_processes(job, 1)


def test_error_for_more_nodes_than_rows_in_a_step() -> None:
    with pytest.raises(ValueError, match=r"nodes=3 is more than the 2 packed rows of an optimizer step"):
        TrainConfig(batch_size=2, gradient_accumulation_steps=1, nodes=3)
