"""A document's loss in a packed row is its loss alone, whatever the family."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from loraline.models.load import load_model
from loraline.training.batches import collate, encode
from loraline.training.loss import LossHead
from loraline.training.packing.attention import packed
from loraline.training.packing.compatibility import enable_packing
from tests.loraline.training.conftest import FAMILIES, chat_row

_OWN_WAY = {"bloom", "mamba"}  # attention that cannot be replaced, and none at all


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_loss_is_loss_alone(
    family: str, make_model: Callable[..., Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    model = load_model(make_model(family))
    documents = encode(tokenizer, [chat_row(i) for i in range(7)], 512)
    alone = [_reference(model, documents, i) for i in range(7)]

    obstacle = enable_packing(model)
    assert bool(obstacle) == (family in _OWN_WAY), obstacle
    batches = collate(documents, np.arange(7), model.device, packing=not obstacle)
    together = 0.0
    for batch in batches:
        with packed(batch.layout):
            together += float(LossHead(model, batch)(batch))
    assert together == pytest.approx(sum(alone), rel=1e-5)


def _reference(model: torch.nn.Module, documents, i: int) -> float:
    part = slice(documents.starts[i], documents.starts[i] + documents.lengths[i])
    tokens = torch.from_numpy(documents.tokens[part]).long()[None]
    labels = torch.where(torch.from_numpy(documents.loss[part])[None], tokens, -100)
    with torch.no_grad():
        logits = model(input_ids=tokens).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum"))
