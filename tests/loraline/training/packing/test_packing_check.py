"""Rows that training packed are compared with the same rows alone, and a leak between them shows."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from loraline.artifacts.training import TrainReport
from loraline.models.load import load_model
from loraline.training import collator
from loraline.training.collator import Batch, collate
from loraline.training.config import TrainConfig
from loraline.training.loss import CausalLMLoss
from loraline.training.packing.packed_sequences import PackedSequences
from loraline.training.tokenized_dataset import TokenizedDataset, tokenize
from loraline.training.train import train
from tests.loraline.training.conftest import chat_row

CONFIG = TrainConfig(rank=4, alpha=8, learning_rate=1e-2, max_steps=2, max_length=500, batch_size=1)


def trained(model: Path, dataset: Path, output: Path) -> TrainReport:
    return train(CONFIG, model, dataset, output)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_packed_rows_are_as_alone(make_model: Callable[..., Path], dataset: Path, tmp_path: Path, dtype: str) -> None:
    packing = trained(make_model(dtype=dtype), dataset, tmp_path).packing
    assert packing
    assert packing.rows > 1
    assert packing.max_difference <= packing.tolerance
    assert json.loads((tmp_path / "training.json").read_text())["packing"] == packing.model_dump()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_that_see_one_another_are_caught(
    make_model: Callable[..., Path], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    def without_borders(lengths: np.ndarray, device: torch.device) -> PackedSequences:
        return PackedSequences(np.array([lengths.sum()]), device)

    monkeypatch.setattr(collator, "PackedSequences", without_borders)
    packing = trained(make_model(dtype=dtype), dataset, tmp_path).packing
    assert packing
    assert packing.max_difference > 2 * packing.tolerance


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_positions_that_go_on_from_row_to_row_are_caught(
    make_model: Callable[..., Path], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    pack = collator._packed_batch

    def counting_on(dataset: TokenizedDataset, indices: np.ndarray, device: torch.device) -> Batch:
        batch = pack(dataset, indices, device)
        batch.inputs["position_ids"] = torch.arange(batch.padded_tokens, device=device)[None]
        return batch

    monkeypatch.setattr(collator, "_packed_batch", counting_on)
    packing = trained(make_model("gpt2", dtype), dataset, tmp_path).packing
    assert packing
    assert packing.max_difference > 2 * packing.tolerance


def test_padded_rows_need_no_proof(make_model: Callable[..., Path], dataset: Path, tmp_path: Path) -> None:
    assert trained(make_model("bloom"), dataset, tmp_path).packing is None


def test_the_losses_of_each_token_add_up_to_the_loss(
    make_model: Callable[..., Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    dataset = tokenize(tokenizer, [chat_row(i) for i in range(3)], 512)
    for family in ("llama", "gemma2"):  # the head in chunks, and the model's own
        model = load_model(make_model(family))
        (batch,) = collate(dataset, np.array([1]), model.device, packing=False)
        loss = CausalLMLoss(model, batch)
        losses = loss.per_token(batch)
        assert losses.shape == (int(dataset.num_labels[1]),)
        assert float(losses.sum()) == pytest.approx(float(loss(batch)), rel=1e-5)
