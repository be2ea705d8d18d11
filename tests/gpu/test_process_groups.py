"""Data parallel training of two processes: NCCL with a GPU for each, gloo where they share one."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loraline.artifacts.training import TrainReport
from loraline.training.config import TrainConfig
from loraline.training.train import train
from loraline.training.worker_processes import WorkerJob, run_processes, train_in_processes

CONFIG = TrainConfig(rank=4, alpha=8, learning_rate=1e-2, max_length=256, batch_size=2, max_steps=6, nodes=2)
# Prints the name of the backend that reduces tensors on CUDA, after a reduction.
BACKEND = """
import os, torch, torch.distributed as dist
from loraline.training.distributed import init_process_group
with init_process_group(os.environ["LORALINE_RENDEZVOUS"]) as distributed:
    total = torch.ones(3, device="cuda")
    dist.all_reduce(total)
    assert total.tolist() == [2.0, 2.0, 2.0]
    assert distributed.all_reduce(distributed.rank + 1.0) == 3.0
    assert distributed.broadcast(lambda: distributed.rank) == 0
    if distributed.is_main_process:
        print("backend", dist.group.WORLD._get_backend(torch.device("cuda")).name())
"""


@pytest.fixture(params=["nccl", "gloo"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The backend that two processes use, with as many GPUs in sight as it takes."""
    if request.param == "nccl" and torch.cuda.device_count() < 2:
        pytest.skip("NCCL needs a GPU for each process, and this machine has fewer than two")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1" if request.param == "nccl" else "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return str(request.param)


@pytest.mark.gpu
def test_tensors_are_reduced(backend: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "backend.py"
    script.write_text(BACKEND)
    assert run_processes([sys.executable, str(script)], 2, tmp_path / "rendezvous") == 0
    assert f"backend {backend}" in capfd.readouterr().out.lower()


@pytest.mark.gpu
def test_two_processes_train_as_one(backend: str, model_on: Callable[..., Path], dataset: Path, tmp_path: Path) -> None:
    """In float32, where only the order in which floats are added differs."""
    model = model_on(torch.device("cuda"), "float32")
    train_in_processes(WorkerJob(config=CONFIG, model=model, dataset=dataset, output=tmp_path / "two"), 2)
    one = train(CONFIG.model_copy(update={"nodes": 1}), model, dataset, tmp_path / "one")
    two = TrainReport.load(tmp_path / "two")
    assert (one.processes, two.processes) == (1, 2)
    assert (one.tokens, one.labelled_tokens) == (two.tokens, two.labelled_tokens)
    for name in ("loss", "grad_norm"):
        expected = [getattr(metrics, name) for metrics in one.history[1:]]
        assert [getattr(metrics, name) for metrics in two.history[1:]] == pytest.approx(expected, rel=1e-3)
