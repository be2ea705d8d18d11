"""One optimizer step, and the evaluation of the loss."""

import math
import time

import numpy as np
import torch

from loraline.artifacts.training import StepMetrics
from loraline.errors import TrainingError
from loraline.training.adapter import check_gradients
from loraline.training.collator import Batch, collate
from loraline.training.lr_scheduler import learning_rate
from loraline.training.optimizer import clip_gradients, optimized_parameters, set_learning_rate
from loraline.training.packing.packed_sequences import use_packed_sequences
from loraline.training.sampler import PackedRows, micro_batches
from loraline.training.tokenized_dataset import TokenizedDataset
from loraline.training.train_context import TrainContext
from loraline.training.train_state import TrainState


def train_step(
    context: TrainContext, dataset: TokenizedDataset, rows: PackedRows, state: TrainState, total_steps: int
) -> StepMetrics:
    """Do one optimizer step, and update the state.

    Args:
        context: model, loss and optimizer.
        dataset: the training rows.
        rows: the packed rows of this step, of all ranks.
        state: how far training is; it is updated.
        total_steps: planned number of optimizer steps.

    Returns:
        The step's metrics.

    Raises:
        TrainingError: loss or gradient is not finite, or in the first step an adapter layer has no gradient.
    """
    config, optimizer, scaler = context.config, context.optimizer, context.grad_scaler
    started = time.perf_counter()
    indices = np.concatenate(rows)
    labels, tokens = int(dataset.num_labels[indices].sum()), int(dataset.lengths[indices].sum())
    batches = _local_batches(context, dataset, rows, state.step)
    loss = _forward_backward(context, batches, labels)
    parameters = optimized_parameters(optimizer)
    loss, padded_tokens = context.distributed.all_reduce_gradients(
        parameters, loss, sum(batch.padded_tokens for batch in batches)
    )
    if state.step == 0:
        check_gradients(context.model)
    scaler.unscale_(optimizer)
    norm = clip_gradients(parameters, config.max_grad_norm)
    loss_value, norm_value = torch.stack([loss, norm]).tolist()
    _check_finite(loss_value, norm_value, context, state.step + 1, [dataset.origins[i] for i in rows[0][:3]])
    rate = learning_rate(config, state.step, total_steps)
    set_learning_rate(optimizer, rate)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)

    seconds = time.perf_counter() - started
    state.step += 1
    state.tokens += tokens
    state.labels += labels
    state.padded_tokens += padded_tokens
    state.seconds += seconds
    return StepMetrics(
        step=state.step,
        loss=loss_value,
        learning_rate=rate,
        grad_norm=norm_value,
        tokens_per_second=tokens / seconds,
    )


def _local_batches(context: TrainContext, dataset: TokenizedDataset, rows: PackedRows, step: int) -> list[Batch]:
    """The batches of this rank's share of an optimizer step."""
    context.model.train()
    context.distributed.seed_step(context.config.seed, step)
    return [
        batch
        for indices in micro_batches(context.distributed.shard(rows), context.config.batch_size)
        for batch in collate(dataset, indices, context.device, context.packing)
    ]


def _forward_backward(context: TrainContext, batches: list[Batch], labels: int) -> torch.Tensor:
    """Accumulate the gradients of this rank's batches; return its part of the mean loss over all labels of the step."""
    loss = torch.zeros((), device=context.device)
    # The scaler makes its scale when it is first used. A rank without rows in this step needs one as well, to decide as
    # the others do, from the same reduced gradients, whether the step is skipped.
    context.grad_scaler.scale(loss)
    for batch in batches:
        with use_packed_sequences(batch.packed_sequences):
            batch_loss = context.loss(batch) / labels
            context.grad_scaler.scale(batch_loss).backward()
        loss += batch_loss.detach()
    return loss


def try_step(context: TrainContext, dataset: TokenizedDataset, indices: np.ndarray) -> None:
    """Do a forward and backward pass of a micro-batch, the indices of its sequences, and leave nothing of it."""
    context.model.train()
    _forward_backward(context, collate(dataset, indices, context.device, context.packing), labels=1)
    context.optimizer.zero_grad(set_to_none=True)


def _check_finite(loss: float, norm: float, context: TrainContext, step: int, origins: list[str]) -> None:
    # With float16 a gradient may overflow: the scaler then skips the step and lowers the scale.
    if math.isfinite(loss) and (math.isfinite(norm) or context.grad_scaler.is_enabled()):
        return
    raise TrainingError(
        f"step {step}: the loss is {loss} and the gradient norm {norm}, at a peak learning rate of "
        f"{context.config.learning_rate}; lower training.learning_rate, set model.compute_dtype to bfloat16 or "
        f"float32, or look at the step's rows, the first of which are {', '.join(origins)}"
    )


@torch.no_grad()
def evaluate_loss(context: TrainContext, dataset: TokenizedDataset, rows: PackedRows) -> float:
    """Return the mean loss over all labels of a dataset, in nats per token."""
    context.model.eval()
    total = torch.zeros((), device=context.device)
    for indices in micro_batches(context.distributed.shard(rows), context.config.batch_size):
        for batch in collate(dataset, indices, context.device, context.packing):
            with use_packed_sequences(batch.packed_sequences):
                total += context.loss(batch)
    return context.distributed.all_reduce(float(total)) / int(dataset.num_labels.sum())
