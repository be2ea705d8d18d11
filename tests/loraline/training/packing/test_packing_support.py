"""The loss of a sequence in a packed row equals its loss alone, for every family."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from loraline.models.load import load_model
from loraline.training.collator import collate
from loraline.training.loss import CausalLMLoss
from loraline.training.packing.packed_sequences import use_packed_sequences
from loraline.training.packing.packing_support import enable_packing
from loraline.training.tokenized_dataset import TokenizedDataset, tokenize
from tests.loraline.training.conftest import FAMILIES, chat_row

_UNSUPPORTED = {"bloom", "mamba"}  # attention that cannot be replaced, and no attention


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_loss_equals_loss_alone(
    family: str, make_model: Callable[..., Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    model = load_model(make_model(family))
    dataset = tokenize(tokenizer, [chat_row(i) for i in range(7)], 512)
    alone = [_reference(model, dataset, i) for i in range(7)]

    reason = enable_packing(model)
    assert bool(reason) == (family in _UNSUPPORTED), reason
    batches = collate(dataset, np.arange(7), model.device, packing=not reason)
    together = 0.0
    for batch in batches:
        with use_packed_sequences(batch.packed_sequences):
            together += float(CausalLMLoss(model, batch)(batch))
    assert together == pytest.approx(sum(alone), rel=1e-5)


def _reference(model: torch.nn.Module, dataset: TokenizedDataset, i: int) -> float:
    part = slice(dataset.offsets[i], dataset.offsets[i] + dataset.lengths[i])
    tokens = torch.from_numpy(dataset.token_ids[part]).long()[None]
    labels = torch.where(torch.from_numpy(dataset.loss_mask[part])[None], tokens, -100)
    with torch.no_grad():
        logits = model(input_ids=tokens).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum"))
