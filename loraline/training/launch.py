"""Where training runs: in this process, in several of this machine, or on several nodes of a cluster."""

import os
from pathlib import Path

import torch

from loraline import progress
from loraline.models.device import pick_device
from loraline.models.folder import read_manifest
from loraline.tracking import Tracker
from loraline.training.config import TrainConfig
from loraline.training.distributed import Ranks
from loraline.training.torchrun import Job, torchrun


def launch(
    config: TrainConfig,
    model: Path,
    dataset: Path,
    output: Path,
    checkpoints: str = "",
    code: str = "",
    tracker: Tracker | None = None,
) -> None:
    """Train as `train` does, with as many processes as there are GPUs and the settings ask for.

    Without a cluster, nodes are stood in for by processes of this machine.

    Raises:
        LoralineError: as `train`, whichever process raised it.
        ClusterError: the cluster does not carry out the training.
    """
    job = Job(config=config, model=model, dataset=dataset, output=output, checkpoints=checkpoints, code=code)
    processes = max(config.nodes, _gpus(model))
    Ranks(count=processes).check_work(config)
    if config.nodes > 1 and os.environ.get("LORALINE_POD"):  # which placement.py sets
        from loraline.training.multinode.trainjob_runner import (
            train_on_nodes,  # Kubernetes' client takes a second to import
        )

        train_on_nodes(job)
    elif processes > 1:
        progress.note(f"training is shared out among {processes} processes of this machine")
        torchrun(job, processes, "--standalone", "--local-addr=127.0.0.1")
    else:
        from loraline.training.train import train  # with all that trains, of no use to who starts others

        train(config, model, dataset, output, checkpoints, code, tracker)


def _gpus(model: Path) -> int:
    """GPUs of this machine, where the model goes to one."""
    return torch.cuda.device_count() if pick_device(read_manifest(model).device).type == "cuda" else 0
