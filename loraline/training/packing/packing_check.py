"""The proof that packing changed nothing: rows packed together against the same rows alone.

isolation.py tries a model before training, with two made-up documents. Here the run's own rows are computed once
more, with the adapter that came out: packed as in training, and each by itself with the attention that transformers
gives the model, which knows nothing of packing. A row whose loss differs has seen its neighbours, or was told wrong
positions, and then the adapter has learned from what serving will not show it.
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
from loraline.training.collator import Batch, Documents, collate
from loraline.training.loss import LossHead
from loraline.training.packing.attention import PACKED, packed

_ROWS = 8  # rows compared: a forward pass for each, and one for all
# Nats a token that rounding may make: two attention kernels round otherwise, by 2^-24, 2^-11 and 2^-8 of a value, in
# every layer. Measured on random Llama, GPT-2 and Gemma 2 of 12 layers, from weights that hardly speak to very large
# ones: 1e-7 to 2e-6 in float32, 2e-4 to 0.006 in float16, 0.002 to 0.06 in bfloat16. Rows that see one another differ
# by 0.12 to 1.7. Positions that go on from row to row differ by 0.2 to 1.7 where they are learned, and rightly not
# at all where they are rotary.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}


@torch.no_grad()
def check_packing(network: PeftModel, head: LossHead, documents: Documents, chosen: np.ndarray) -> PackingReport:
    """Compare some rows packed together with the same rows alone.

    All tokens of a row count here, also those that carry no loss: a leak shows in each, and rounding averages out.

    Args:
        network: the model with its adapter, in packed attention; it is left in eval mode.
        head: its loss.
        documents: the rows.
        chosen: numbers of documents that training put into one forward pass.
    """
    network.eval()
    base = cast(PreTrainedModel, network.get_base_model())
    some = chosen[:_ROWS]
    rows = some[np.argsort(-documents.lengths[some], kind="stable")]  # the order in which they lie in a pass
    (together,) = collate(documents, rows, base.device, packing=True)
    with packed(together.layout):
        losses = head.each(_with_all_tokens(together, documents.lengths[rows])).split(
            (documents.lengths[rows] - 1).tolist()
        )
    apart = []
    with _own_attention(base):
        for row, packed_loss in zip(rows, losses, strict=True):
            (alone,) = collate(documents, np.array([row]), base.device, packing=False)
            loss = head.each(_with_all_tokens(alone, documents.lengths[[row]]))
            apart.append((packed_loss - loss).abs().mean())
    largest = float(torch.stack(apart).max())
    return PackingReport(rows=len(rows), max_difference=largest, tolerance=_TOLERANCE[base.dtype])


def _with_all_tokens(batch: Batch, lengths: np.ndarray) -> Batch:
    """The same pass, with loss on every token but the first of each document."""
    tokens = batch.inputs["input_ids"].flatten()
    is_first = np.zeros(len(tokens), bool)
    is_first[np.cumsum(lengths) - lengths] = True
    places = torch.from_numpy(np.flatnonzero(~is_first)).to(tokens.device)
    return replace(batch, positions=places - 1, targets=tokens[places])


@contextmanager
def _own_attention(base: PreTrainedModel) -> Iterator[None]:
    base.set_attn_implementation("sdpa" if base._supports_sdpa else "eager")
    try:
        yield
    finally:
        base.set_attn_implementation(PACKED)
