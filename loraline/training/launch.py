"""Start training: in this process, in several processes of this machine, or on several nodes of a cluster."""

import os
from pathlib import Path

import torch

from loraline import progress
from loraline.models.config import ModelConfig
from loraline.models.device import pick_device
from loraline.models.folder import read_manifest
from loraline.models.layout_checks import require_targets
from loraline.models.memory_estimate import require_memory
from loraline.tracking import Tracker
from loraline.training.config import TrainConfig
from loraline.training.worker_processes import WorkerJob, train_in_processes


def launch(
    config: TrainConfig,
    model: Path,
    dataset: Path,
    output: Path,
    checkpoints: str = "",
    tracker: Tracker | None = None,
) -> None:
    """Train as `train` does, in as many processes as `training.nodes` asks for, or as there are GPUs with rows to do.

    Without a cluster, processes of this machine take the place of nodes.

    Raises:
        ConfigurationError: the model has no such layers, or they can have no such adapter.
        ModelLoadingError: training does not fit into the memory of this machine; said before anything is loaded.
        LoralineError: as `train`, whichever process raised it.
        ClusterError: the Kubernetes API refuses a request.
    """
    job = WorkerJob(config=config, model=model, dataset=dataset, output=output, checkpoints=checkpoints)
    processes = local_processes(config, _gpus(model))
    require_targets(model, config)
    _check_memory(config, model)
    if config.nodes > 1 and os.environ.get("LORALINE_POD"):  # set by placement.py
        from loraline.training.multinode.trainjob_runner import train_on_nodes  # the client takes a second to import

        train_on_nodes(job)
    elif processes > 1:
        progress.note(f"data parallel training in {processes} processes of this machine")
        train_in_processes(job, processes)
    else:
        from loraline.training.train import train  # with PEFT, which a process that starts others does not need

        train(config, model, dataset, output, checkpoints, tracker)


def local_processes(config: TrainConfig, gpus: int) -> int:
    """Number of processes on this machine: what was asked for, or one for each GPU for which a step has a row."""
    if config.nodes > 1:
        return config.nodes
    processes = config.processes_per_node(gpus)
    if processes < gpus:
        progress.note(
            f"{processes} of {gpus} GPUs are used: an optimizer step has {config.rows_per_step} packed rows "
            "(training.batch_size x training.gradient_accumulation_steps)"
        )
    return processes


def _gpus(model: Path) -> int:
    """Number of GPUs of this machine; 0 where the model does not run on CUDA."""
    return torch.cuda.device_count() if pick_device(read_manifest(model).device).type == "cuda" else 0


def _check_memory(config: TrainConfig, model: Path) -> None:
    """Refuse what does not fit into the memory of this machine."""
    manifest = read_manifest(model)
    settings = {"source": str(model), "trust_remote_code": manifest.trust_remote_code}
    settings |= {name: getattr(manifest, name) for name in ("quantization", "compute_dtype", "device", "attention")}
    require_memory(ModelConfig.model_validate(settings), config.footprint())
