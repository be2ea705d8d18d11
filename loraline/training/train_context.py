"""What trains and where it is: model, adapter, loss and optimizer, and all of it that a checkpoint holds."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import set_seed
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from loraline import progress
from loraline.models.folder import read_manifest
from loraline.models.load import load_model
from loraline.training import adapter
from loraline.training.checkpoint import CheckpointStore, State
from loraline.training.collator import Documents, collate
from loraline.training.config import TrainConfig
from loraline.training.distributed import Ranks
from loraline.training.loss import LossHead
from loraline.training.packing.attention import packed
from loraline.training.packing.packing_support import enable_packing


@dataclass
class Position:
    """Where training is; with weights, optimizer and random numbers, all that a checkpoint holds."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    tokens: int = 0
    labelled: int = 0
    places: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    evaluations_without_gain: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Tokens, padding not counted, in a second of training steps so far."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass
class Machine:
    """What computes: the model with its adapter, its loss, and the optimizer."""

    config: TrainConfig
    network: PeftModel
    head: LossHead
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    obstacle: str
    """Why documents are padded and not packed; empty where they are packed."""
    device: torch.device
    ranks: Ranks

    @property
    def packing(self) -> bool:
        """Whether a row holds several documents."""
        return not self.obstacle


def assemble(config: TrainConfig, folder: Path, documents: Documents, ranks: Ranks) -> Machine:
    """Load the base, put a new adapter on it, and make the rest."""
    base = cast(PreTrainedModel, load_model(folder))
    obstacle = _obstacle_to_packing(base, read_manifest(folder).attention)
    if obstacle:
        progress.note(f"documents are not packed but padded, because {obstacle}")
    set_seed(config.seed)  # here and not before: what loading does with random numbers is of no consequence
    network = adapter.attach(base, config)
    batch = collate(documents, np.array([0]), base.device, packing=not obstacle)[0]
    with packed(batch.layout):
        head = LossHead(base, batch)
    if config.gradient_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(adapter.trained(network).values(), weight_decay=config.weight_decay, fused=True)
    scaler = torch.amp.GradScaler(base.device.type, enabled=base.dtype == torch.float16 and base.device.type == "cuda")
    return Machine(config, network, head, optimizer, scaler, obstacle, base.device, ranks)


def _obstacle_to_packing(base: PreTrainedModel, requested: str) -> str:
    """Enable packing unless the recipe asks for an attention implementation; return why sequences are padded."""
    if requested != "auto":
        return f"packing needs its own attention, and model.attention={requested} was asked for"
    return enable_packing(base)


def state(now: Position, machine: Machine) -> State:
    """All that a checkpoint holds."""
    return {
        "position": {f.name: getattr(now, f.name) for f in dataclasses.fields(now)},
        "weights": adapter.snapshot(machine.network),
        "optimizer": machine.optimizer.state_dict(),
        "scaler": machine.scaler.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if machine.device.type == "cuda" else [],
    }


def resume(store: CheckpointStore, machine: Machine) -> Position | None:
    """Bring back the newest checkpoint, if there is one: the same on every rank."""
    kept: dict[str, Any] | None = machine.ranks.from_leader(store.latest)
    if kept is None:
        return None
    adapter.restore(machine.network, kept["weights"])
    machine.optimizer.load_state_dict(kept["optimizer"])
    machine.scaler.load_state_dict(kept["scaler"])
    torch.set_rng_state(kept["random"])
    # As many GPUs as are here may have been there, or not: then it went on another machine.
    if machine.device.type == "cuda" and len(kept["random_cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(kept["random_cuda"])
    return Position(**kept["position"])
