"""What computes a training step: model, loss, optimizer and processes; and its state in a checkpoint."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import set_seed
from peft import PeftModel
from transformers import PreTrainedModel

from loraline import progress
from loraline.errors import TrainingError
from loraline.models.folder import read_manifest
from loraline.models.load import load_model
from loraline.training.adapter import adapter_state, add_adapter, count_expert_weights, load_adapter_state
from loraline.training.checkpoint import Checkpoint, CheckpointStore
from loraline.training.collator import collate
from loraline.training.config import TrainConfig
from loraline.training.determinism import prepare_deterministic_algorithms
from loraline.training.distributed import Distributed
from loraline.training.loss import CausalLMLoss
from loraline.training.optimizer import create_grad_scaler, create_optimizer
from loraline.training.packing.packed_sequences import use_packed_sequences
from loraline.training.packing.packing_support import enable_packing
from loraline.training.tokenized_dataset import TokenizedDataset
from loraline.training.train_state import TrainState


@dataclass
class TrainContext:
    """What computes a training step."""

    config: TrainConfig
    model: PeftModel
    loss: CausalLMLoss
    optimizer: torch.optim.Optimizer
    grad_scaler: torch.amp.GradScaler
    packing_unsupported_reason: str
    """Why sequences are padded and not packed; empty where they are packed."""
    device: torch.device
    distributed: Distributed

    @property
    def packing(self) -> bool:
        """Whether several sequences share a row."""
        return not self.packing_unsupported_reason


def create_context(
    config: TrainConfig,
    folder: Path,
    dataset: TokenizedDataset,
    distributed: Distributed,
    eval_set: TokenizedDataset | None = None,
) -> TrainContext:
    """Load the base model, add a new adapter, and create loss and optimizer.

    Raises:
        TrainingError: a token that the base has no embedding for.
    """
    prepare_deterministic_algorithms()
    base = cast(PreTrainedModel, load_model(folder))
    for one in (dataset, eval_set):
        if one is not None:
            _check_token_ids(base, one, read_manifest(folder).source)
    reason = _enable_packing(base, read_manifest(folder).attention)
    if reason:
        progress.note(f"sequences are padded and not packed: {reason}")
    set_seed(config.seed)  # after loading, which may draw random numbers
    model = add_adapter(base, config)
    if experts := count_expert_weights(model):
        progress.note(
            f"{experts:,} of the adapter's weights are for routed experts; to leave them out, name the other "
            "layers in training.target_modules"
        )
    example = collate(dataset, np.array([0]), base.device, packing=not reason)[0]
    with use_packed_sequences(example.packed_sequences):
        loss = CausalLMLoss(base, example)
    if config.gradient_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    return TrainContext(
        config,
        model,
        loss,
        create_optimizer(model, config),
        create_grad_scaler(base.device, base.dtype),
        reason,
        base.device,
        distributed,
    )


def _enable_packing(base: PreTrainedModel, requested_attention: str) -> str:
    """Enable packing unless the recipe asks for an attention implementation; return why sequences are padded."""
    if requested_attention != "auto":
        return f"packing needs its own attention, and model.attention={requested_attention} was asked for"
    return enable_packing(base)


def _check_token_ids(base: PreTrainedModel, dataset: TokenizedDataset, name: str) -> None:
    """Raise TrainingError where a token id has no row in the embeddings; on CUDA that would end in a device assert."""
    rows = len(cast(torch.Tensor, base.get_input_embeddings().weight))
    largest = int(dataset.token_ids.max(initial=0))
    if largest >= rows:
        at = int(np.argmax(dataset.token_ids))
        row = dataset.origins[int(np.searchsorted(dataset.offsets, at, side="right")) - 1]
        raise TrainingError(
            f"{row} has the token id {largest}, and the embeddings of {name} have {rows} rows, for "
            f"ids up to {rows - 1}: its tokenizer is that of another model, or has tokens that were added without "
            "resizing the embeddings"
        )


def require_same_start(context: TrainContext, state: TrainState) -> None:
    """Raise TrainingError unless all ranks begin from the same step with the same adapter, bit by bit."""
    digest = hashlib.sha256(str(state.step).encode())
    if context.distributed.world_size > 1:
        for name, weight in sorted(adapter_state(context.model).items()):
            digest.update(name.encode() + weight.contiguous().view(torch.uint8).numpy().tobytes())
    context.distributed.require_same("adapter's weights at the start", digest.digest())


def make_checkpoint(state: TrainState, context: TrainContext) -> Checkpoint:
    """Copy all that a later process needs to go on exactly from here: later steps do not change the copy."""
    return {
        "train_state": state.state_dict(),
        "adapter": adapter_state(context.model),
        "optimizer": _copy_to_cpu(context.optimizer.state_dict()),
        "grad_scaler": context.grad_scaler.state_dict(),
        "rng_state": torch.get_rng_state(),
        "cuda_rng_states": torch.cuda.get_rng_state_all() if context.device.type == "cuda" else [],
    }


def _copy_to_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy_to_cpu(one) for key, one in value.items()}
    return [_copy_to_cpu(one) for one in value] if isinstance(value, list) else value


def resume(store: CheckpointStore, context: TrainContext) -> TrainState | None:
    """Restore the newest checkpoint, the same on every rank; None where there is none."""
    checkpoint: dict[str, Any] | None = context.distributed.broadcast(store.latest)
    if checkpoint is None:
        return None
    load_adapter_state(context.model, checkpoint["adapter"])
    context.optimizer.load_state_dict(checkpoint["optimizer"])
    context.grad_scaler.load_state_dict(checkpoint["grad_scaler"])
    torch.set_rng_state(checkpoint["rng_state"])
    # Another number of GPUs means another machine than the one that saved it.
    if context.device.type == "cuda" and len(checkpoint["cuda_rng_states"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(checkpoint["cuda_rng_states"])
    return TrainState.from_state_dict(checkpoint["train_state"])
