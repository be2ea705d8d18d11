"""What training leaves for people and for the steps after it: training.json."""

import resource
import sys
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from loraline.training.batches import Documents
from loraline.training.packing.check import Packing


class TrainReport(BaseModel):
    """How training went."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    base_digest: str
    """Digest of the base that the adapter belongs to; of the 16-bit one, also where training ran on it quantized."""
    quantization: str
    """How the base was held while training: none, int8 or nf4."""
    steps: int
    """Optimizer steps that were done."""
    planned_steps: int
    """Optimizer steps that the settings ask for. More than `steps` where training stopped early."""
    epochs: float
    """Passes over the training set."""
    final_loss: float
    """Training loss of the last step, in nats a token."""
    best_eval_loss: float | None
    """Lowest loss on the evaluation rows, in nats a token."""
    kept_step: int
    """The step whose adapter was kept: the last, or with early stopping the best."""
    history: list[dict[str, float]]
    """For each step: step, loss, learning_rate, gradient_norm, tokens_per_second; eval_loss where it was taken."""
    examples: int
    truncated: int
    """Examples cut at `max_length`."""
    dropped: int
    """Examples left out, because none of their tokens carries loss."""
    tokens: int
    """Tokens seen, padding not counted."""
    labelled_tokens: int
    """Tokens seen that carry loss."""
    padding_fraction: float
    """Part of what was computed that was padding."""
    masked_fraction: float
    """Part of the training set's tokens that carries no loss."""
    tokens_per_second: float
    """Tokens, padding not counted, in a second of training; evaluations and checkpoints not counted."""
    seconds: float
    """Time spent in training steps, over all starts of this run."""
    trainable_parameters: int
    total_parameters: int
    processes: int
    """Processes that trained together, on one machine or several."""
    device: str
    dtype: str
    attention: str
    """How documents are kept apart."""
    packing: Packing | None
    """The rows' losses packed together against those alone; null where rows are padded."""
    loss_head: str
    """How logits are made."""
    peak_memory_bytes: int
    """On CUDA that of the device, else of the process."""
    resumed_from: int | None
    """Step of the checkpoint that this run went on from."""
    versions: dict[str, str]


def peak_memory(device: torch.device) -> int:
    """Largest memory in use so far, in bytes: the device's on CUDA, else the process's."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def write(report: TrainReport, output: Path) -> None:
    """Write training.json."""
    (output / "training.json").write_text(report.model_dump_json(indent=2))


def masked_fraction(documents: Documents) -> float:
    """Part of the tokens that carries no loss."""
    return 1 - float(documents.loss.mean())
