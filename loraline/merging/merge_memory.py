"""The memory that a merge needs with its parity check, from a model on the meta device."""

from typing import Any

import torch
from transformers import PreTrainedModel

from loraline.evaluation.evaluation_memory import forward_bytes
from loraline.merging.config import MergeConfig
from loraline.merging.parity_inputs import MAX_TOKENS
from loraline.models.float32_compute import layers_and_others
from loraline.models.memory_items import MemoryItem

_FLOAT32 = 4  # bytes
_COMPARED = 6
"""Matrices of logits that exist while two models are compared on a sequence."""


def merge_items(model: PreTrainedModel, merge: MergeConfig, on_cpu: bool) -> list[MemoryItem]:
    """Compute what the parity check needs; the merge itself holds some rows of one weight.

    Args:
        model: on the meta device, in the dtype that its weights are stored in.
        merge: the recipe's merge section.
        on_cpu: on a CPU, the weights are mapped from their files, and the logits of all sequences are in its memory.
    """
    network: Any = model
    stored = sum(weight.nbytes for weight in (*model.parameters(), *model.buffers()))
    head = network.get_output_embeddings()
    # An embedding converts the rows that it looks up, and no others.
    parts = [_values(part) for part in layers_and_others(model) if type(part) is not torch.nn.Embedding]
    in_float32 = 0 if model.dtype == torch.float32 else _FLOAT32 * (max(parts) + (_values(head) if head else 0))
    logits = MAX_TOKENS * model.config.get_text_config().vocab_size * _FLOAT32
    running = in_float32 + forward_bytes(model, 1, MAX_TOKENS) * _FLOAT32 // model.dtype.itemsize + logits
    items = [
        MemoryItem("weights", 0 if on_cpu else stored, "mapped from their files" if on_cpu else "as they are stored")
    ]
    if on_cpu:
        items.append(MemoryItem("logits", merge.parity_examples * logits, "of all sequences, in float32"))
    if running > _COMPARED * logits:
        return [*items, MemoryItem("running", running, "a sequence, with a layer and the output head in float32")]
    return [*items, MemoryItem("comparing", _COMPARED * logits, "the logits of a sequence, in float32")]


def _values(part: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in part.parameters())
