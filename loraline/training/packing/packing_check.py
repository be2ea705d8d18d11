"""Check after training that packing did not change the losses: packed sequences against the same ones alone.

packing_support.py tries a model before training, with two made-up sequences. Here sequences of the run itself are
computed once more, with the trained adapter: packed as in training, and each alone with the attention of transformers,
which knows nothing of packing. A sequence whose loss differs has attended to its neighbours, or got wrong position
ids, and then the adapter has learned from context that it will not have when it is served.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from loraline.artifacts.training import PackingReport
from loraline.training.collator import Batch, collate
from loraline.training.loss import CausalLMLoss
from loraline.training.packing.packed_sequences import use_packed_sequences
from loraline.training.tokenized_dataset import TokenizedDataset

_MAX_SEQUENCES = 8  # compared: a forward pass for each, and one for all of them packed
# Nats per token that rounding may cause: two attention kernels round differently, by 2^-24, 2^-11 and 2^-8 of a value,
# in every layer. Measured on random Llama, GPT-2 and Gemma 2 models of 12 layers, from very small weights to very
# large ones: 1e-7 to 2e-6 in float32, 2e-4 to 0.006 in float16, 0.002 to 0.06 in bfloat16. Sequences that attend to
# one another differ by 0.12 to 1.7. Position ids that continue from sequence to sequence differ by 0.2 to 1.7 where
# positions are learned, and rightly not at all where they are rotary.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}


@torch.no_grad()
def check_packing(
    model: PeftModel, loss: CausalLMLoss, dataset: TokenizedDataset, micro_batch: np.ndarray
) -> PackingReport:
    """Compare the losses of sequences that are packed together with those of the same sequences alone.

    All tokens of a sequence count here, also those that carry no loss: a leak shows in each, and rounding averages out.

    Args:
        model: the model with its adapter, in packed attention; it is left in eval mode.
        loss: its loss.
        dataset: the tokenized rows.
        micro_batch: indices of sequences that training put into one forward pass.
    """
    model.eval()
    base = cast(PreTrainedModel, model.get_base_model())
    some = micro_batch[:_MAX_SEQUENCES]
    indices = some[np.argsort(-dataset.lengths[some], kind="stable")]  # their order in a packed row
    (packed_batch,) = collate(dataset, indices, base.device, packing=True)
    with use_packed_sequences(packed_batch.packed_sequences):
        packed_losses = loss.per_token(_with_all_labels(packed_batch, dataset.lengths[indices])).split(
            (dataset.lengths[indices] - 1).tolist()
        )
    differences = []
    with _original_attention(base):
        for index, packed_loss in zip(indices, packed_losses, strict=True):
            (batch,) = collate(dataset, np.array([index]), base.device, packing=False)
            alone = loss.per_token(_with_all_labels(batch, dataset.lengths[[index]]))
            differences.append((packed_loss - alone).abs().mean())
    largest = float(torch.stack(differences).max())
    return PackingReport(rows=len(indices), max_difference=largest, tolerance=_TOLERANCE[base.dtype])


def _with_all_labels(batch: Batch, lengths: np.ndarray) -> Batch:
    """Return the batch with every token as a label, except the first of each sequence."""
    token_ids = batch.inputs["input_ids"].flatten()
    is_first = np.zeros(len(token_ids), bool)
    is_first[np.cumsum(lengths) - lengths] = True
    at_labels = torch.from_numpy(np.flatnonzero(~is_first)).to(token_ids.device)
    return replace(batch, label_positions=at_labels - 1, labels=token_ids[at_labels])


@contextmanager
def _original_attention(base: PreTrainedModel) -> Iterator[None]:
    packed = base.config._attn_implementation
    base.set_attn_implementation("sdpa" if base._supports_sdpa else "eager")
    try:
        yield
    finally:
        base.set_attn_implementation(packed)
