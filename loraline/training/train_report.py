"""The training report: what training.json holds."""

import math
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loraline.artifacts.training import TrainReport
from loraline.data.chat_template import served_template
from loraline.identity.digests import json_digest
from loraline.identity.step_identity import step_identity
from loraline.models.folder import load_tokenizer, read_manifest
from loraline.training.adapter import describe_adapter
from loraline.training.packing.attention import VARLEN_ATTENTION
from loraline.training.packing.packing_check import check_packing
from loraline.training.sampler import PackedRows
from loraline.training.tokenized_dataset import TokenizedDataset
from loraline.training.train_context import TrainContext
from loraline.training.train_state import TrainState


def make_report(
    context: TrainContext,
    state: TrainState,
    dataset: TokenizedDataset,
    steps: list[PackedRows],
    micro_batch: np.ndarray,
    resumed_from: int | None,
    model: Path,
) -> TrainReport:
    """Make the report of a finished training.

    Args:
        context: model and loss; packed sequences are compared with the same ones alone.
        state: how far training went.
        dataset: the training rows.
        steps: the packed rows of every planned step.
        micro_batch: indices of sequences that training put into one forward pass.
        resumed_from: the step of the checkpoint that training resumed from.
        model: folder of the base model.
    """
    manifest = read_manifest(model)
    parameters = list(context.model.parameters())
    return TrainReport(
        identity=step_identity("train_lora"),
        base_digest=manifest.digest,
        quantization=manifest.quantization,
        steps=state.step,
        planned_steps=len(steps),
        epochs=sum(len(row) for rows in steps[: state.step] for row in rows) / len(dataset),
        final_loss=[metrics.loss for metrics in state.history if metrics.loss is not None][-1],
        best_eval_loss=None if math.isinf(state.best_eval_loss) else state.best_eval_loss,
        kept_step=state.kept_step,
        history=state.history,
        examples=len(dataset),
        truncated=dataset.truncated,
        dropped=dataset.dropped,
        silent_rows=dataset.silent,
        joined_rows=dataset.joined,
        chat_template_digest=json_digest(served_template(load_tokenizer(model))),
        chat_template_kwargs=manifest.chat_template_kwargs,
        tokens=state.tokens,
        labelled_tokens=state.labels,
        padding_fraction=1 - state.tokens / state.padded_tokens,
        masked_fraction=dataset.masked_fraction,
        tokens_per_second=state.tokens_per_second,
        seconds=state.seconds,
        trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        adapted=describe_adapter(context.model),
        total_parameters=sum(p.numel() for p in parameters),
        processes=context.distributed.world_size,
        device=str(context.device),
        dtype=str(context.model.get_base_model().dtype).removeprefix("torch."),
        attention=_describe_attention(context),
        packing=check_packing(context.model, context.loss, dataset, micro_batch) if context.packing else None,
        loss_head="chunked logits at the label positions" if context.loss.chunked else "all logits, by the model",
        peak_memory_bytes=_peak_memory(context.device),
        resumed_from=resumed_from,
    )


def _describe_attention(context: TrainContext) -> str:
    """The attention implementation, and the layout of the sequences of a batch."""
    base: Any = context.model.get_base_model()
    if context.packing:
        by = "variable-length FlashAttention" if base.config._attn_implementation == VARLEN_ATTENTION else "groups"
        return f"packed sequences, block-diagonal causal, by {by}"
    return f"{base.config._attn_implementation}, padded sequences: {context.packing_unsupported_reason}"


def _peak_memory(device: torch.device) -> int:
    """Largest memory in use so far, in bytes: of the device on CUDA, else of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
