"""The losses of packed sequences are compared with those alone, and attention across boundaries is detected."""

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
def test_packed_losses_equal_losses_alone(
    make_model: Callable[..., Path], dataset: Path, tmp_path: Path, dtype: str
) -> None:
    packing = trained(make_model(dtype=dtype), dataset, tmp_path).packing
    assert packing
    assert packing.rows > 1
    assert packing.max_difference <= packing.tolerance
    assert json.loads((tmp_path / "training.json").read_text())["packing"] == packing.model_dump()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_across_boundaries_is_detected(
    make_model: Callable[..., Path], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    def without_boundaries(lengths: np.ndarray, device: torch.device) -> PackedSequences:
        return PackedSequences(np.array([lengths.sum()]), device)

    monkeypatch.setattr(collator, "PackedSequences", without_boundaries)
    packing = trained(make_model(dtype=dtype), dataset, tmp_path).packing
    assert packing
    assert packing.max_difference > 2 * packing.tolerance


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_position_ids_that_do_not_restart_are_detected(
    make_model: Callable[..., Path], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    pack = collator._packed_batch

    def continued_position_ids(dataset: TokenizedDataset, indices: np.ndarray, device: torch.device) -> Batch:
        batch = pack(dataset, indices, device)
        batch.inputs["position_ids"] = torch.arange(batch.padded_tokens, device=device)[None]
        return batch

    monkeypatch.setattr(collator, "_packed_batch", continued_position_ids)
    packing = trained(make_model("gpt2", dtype), dataset, tmp_path).packing
    assert packing
    assert packing.max_difference > 2 * packing.tolerance


def test_no_comparison_for_padded_sequences(make_model: Callable[..., Path], dataset: Path, tmp_path: Path) -> None:
    assert trained(make_model("bloom"), dataset, tmp_path).packing is None


def test_per_token_losses_sum_to_the_loss(make_model: Callable[..., Path], tokenizer: PreTrainedTokenizerFast) -> None:
    dataset = tokenize(tokenizer, [chat_row(i) for i in range(3)], 512)
    for family in ("llama", "gemma2"):  # the head in chunks, and the model's own
        model = load_model(make_model(family))
        (batch,) = collate(dataset, np.array([1]), model.device, packing=False)
        loss = CausalLMLoss(model, batch)
        losses = loss.per_token(batch)
        assert losses.shape == (int(dataset.num_labels[1]),)
        assert float(losses.sum()) == pytest.approx(float(loss(batch)), rel=1e-5)
