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
from loraline.training.packing import packing_support
from loraline.training.packing.attention import (
    GROUPED_ATTENTION,
    VARLEN_ATTENTION,
    grouped_attention,
    packed_attentions,
    varlen_attention,
)
from loraline.training.packing.packed_sequences import PackedSequences, use_packed_sequences
from loraline.training.packing.packing_support import enable_packing
from loraline.training.tokenized_dataset import TokenizedDataset, tokenize
from tests.loraline.training.conftest import FAMILIES, chat_row

# Attention that cannot be replaced or is chunked; and layers that are no attention.
_UNSUPPORTED = {"bloom", "llama4_text", "mamba", "qwen3_next"}


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


def test_without_variable_length_flash_attention_sequences_are_packed_in_groups(
    make_model: Callable[..., Path],
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As on a GPU that it does not take: the kernel, which is tried first here, does not run on a CPU."""
    monkeypatch.setattr(packing_support, "packed_attentions", lambda *_: [VARLEN_ATTENTION, GROUPED_ATTENTION])
    model = load_model(make_model("llama"))
    assert enable_packing(model) == ""
    assert model.config._attn_implementation == GROUPED_ATTENTION
    assert "variable-length FlashAttention is not used: its forward pass fails" in capsys.readouterr().out
    dataset = tokenize(tokenizer, [chat_row(i) for i in range(7)], 512)
    (batch,) = collate(dataset, np.arange(7), model.device, packing=True)
    with use_packed_sequences(batch.packed_sequences):
        together = float(CausalLMLoss(model, batch)(batch))
    fresh = load_model(make_model("llama"))
    assert together == pytest.approx(sum(_reference(fresh, dataset, i) for i in range(7)), rel=1e-5)


def test_the_fast_attention_comes_first_where_it_may_work() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    for dtype in (torch.bfloat16, torch.float16):
        assert packed_attentions(cuda, dtype) == [VARLEN_ATTENTION, GROUPED_ATTENTION]
        assert packed_attentions(cpu, dtype) == [GROUPED_ATTENTION]
    assert packed_attentions(cuda, torch.float32) == [GROUPED_ATTENTION]


@pytest.mark.parametrize("changes", [{"softcap": 5.0}, {"dropout": 1e-9}])
def test_what_flash_attention_does_not_compute_is_computed_in_groups(changes: dict[str, float]) -> None:
    lengths = np.array([5, 3])
    query, key, value = (torch.randn(1, 2, 8, 16) for _ in range(3))
    with use_packed_sequences(PackedSequences(lengths, torch.device("cpu"))):
        fast, _ = varlen_attention(torch.nn.Module(), query, key, value, None, **changes)
        grouped, _ = grouped_attention(torch.nn.Module(), query, key, value, None, **changes)
    assert torch.equal(fast, grouped)


@pytest.mark.parametrize("family", ["deepseek_v3", "gpt_oss"])
def test_values_of_another_size_and_sinks_are_packed_in_16_bit(family: str, make_model: Callable[..., Path]) -> None:
    """The matrix products that short sequences take on a CPU."""
    assert enable_packing(load_model(make_model(family, "bfloat16"))) == ""
