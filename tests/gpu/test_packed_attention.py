"""Packed attention, on CUDA torch's variable-length FlashAttention, against plain attention of each sequence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.attention.varlen as torch_varlen
from torch import Tensor, nn

from loraline.training.config import TrainConfig
from loraline.training.packing.attention import VARLEN_ATTENTION, grouped_attention, packed_attentions, varlen_attention
from loraline.training.packing.packed_sequences import PackedSequences, use_packed_sequences
from loraline.training.train import train

LENGTHS = np.array([130, 121, 64, 63, 9, 1])
HEADS, HEAD_SIZE = 4, 64
# Of the largest value: FlashAttention rounds probabilities and outputs to 16 bit, and sums them in another order.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.05}


@pytest.fixture
def varlen_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The longest sequence of every call of variable-length FlashAttention."""
    calls: list[int] = []
    original = torch_varlen.varlen_attn

    def count(*arguments: object, **options: object) -> object:
        calls.append(arguments[5])
        return original(*arguments, **options)

    monkeypatch.setattr(torch_varlen, "varlen_attn", count)
    return calls


@pytest.mark.parametrize("window", [None, 16], ids=["full", "window"])
@pytest.mark.parametrize("key_heads", [4, 2], ids=["mha", "gqa"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_output_and_gradients_are_those_of_plain_attention(
    device: torch.device, dtype: torch.dtype, key_heads: int, window: int | None, varlen_calls: list[int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, int(LENGTHS.sum()), HEAD_SIZE, generator=generator).to(device, dtype).requires_grad_()
        for heads in (HEADS, key_heads, key_heads)
    )
    weights = torch.randn(1, int(LENGTHS.sum()), HEADS, HEAD_SIZE, generator=generator).to(device, dtype)
    with use_packed_sequences(PackedSequences(LENGTHS, device)):
        is_fast = packed_attentions(device, dtype)[0] == VARLEN_ATTENTION
        attention = varlen_attention if is_fast else grouped_attention
        output, _ = attention(nn.Module(), query, key, value, None, sliding_window=window)
        gradients = torch.autograd.grad((output * weights).sum(), (query, key, value))
    assert varlen_calls == ([130] if device.type == "cuda" and dtype != torch.float32 else [])

    plain = [x.detach().double().requires_grad_() for x in (query, key, value)]
    expected = _plain_attention(*plain, window)
    expected_gradients = torch.autograd.grad((expected * weights.double()).sum(), plain)
    assert _difference(output, expected) < TOLERANCE[dtype]
    for gradient, one in zip(gradients, expected_gradients, strict=True):
        assert _difference(gradient, one) < TOLERANCE[dtype]


def _difference(tensor: Tensor, expected: Tensor) -> float:
    """Largest difference, as a fraction of the largest value."""
    return float((tensor.double() - expected).abs().max() / expected.abs().max())


def _plain_attention(query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
    """Attention of each sequence alone, by its definition; shape (1, tokens, heads, head size)."""
    outputs = []
    heads = (x[0].repeat_interleave(HEADS // x.shape[1], dim=0) for x in (query, key, value))
    for q, k, v in zip(*(x.split(LENGTHS.tolist(), dim=1) for x in heads), strict=True):
        positions = torch.arange(q.shape[1], device=q.device)
        distance = positions[:, None] - positions[None, :]
        hidden = (distance < 0) | (distance >= (window or len(positions)))
        scores = (q @ k.transpose(1, 2) * HEAD_SIZE**-0.5).masked_fill(hidden, float("-inf"))
        outputs.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)[None]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gpt2", "gemma2"])
def test_packed_sequences_of_a_model_have_their_loss_alone(
    device: torch.device,
    family: str,
    dtype: str,
    model_on: Callable[..., Path],
    dataset: Path,
    tmp_path: Path,
    varlen_calls: list[int],
) -> None:
    """Qwen2 and Mistral have a sliding window here; Gemma 2 caps its scores, which FlashAttention does not take."""
    config = TrainConfig(rank=4, alpha=8, learning_rate=1e-2, max_steps=4, max_length=256, batch_size=2)
    report = train(config, model_on(device, dtype, family), dataset, tmp_path / "adapter")
    assert report.attention.startswith("packed")
    assert report.packing
    assert report.packing.rows > 1
    assert report.packing.max_difference <= report.packing.tolerance
    assert report.history[-1].loss < report.history[1].loss
    assert bool(varlen_calls) == (device.type == "cuda" and family != "gemma2")


def test_a_gpu_without_flash_attention_trains_on_packed_sequences_in_groups(
    device: torch.device, model_on: Callable[..., Path], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FlashAttention takes no head of more than 256 features, and no GPU before Ampere."""
    config = TrainConfig(rank=4, alpha=8, learning_rate=1e-2, max_steps=4, max_length=256, batch_size=2)
    fast = train(config, model_on(device, "bfloat16"), dataset, tmp_path / "fast")

    def refuse(*arguments: object, **options: object) -> object:
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")

    monkeypatch.setattr(torch_varlen, "varlen_attn", refuse)
    grouped = train(config, model_on(device, "bfloat16"), dataset, tmp_path / "grouped")
    assert grouped.attention == "packed sequences, block-diagonal causal, by groups"
    assert grouped.packing
    assert grouped.packing.max_difference <= grouped.packing.tolerance
    losses = [[metrics.loss for metrics in report.history[1:]] for report in (fast, grouped)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_gradient_checkpointing_recomputes_packed_attention(
    device: torch.device, model_on: Callable[..., Path], dataset: Path, tmp_path: Path
) -> None:
    """On CUDA the backward pass runs in a thread of its own, which must find the boundaries of the sequences."""
    config = TrainConfig(rank=4, alpha=8, max_steps=2, max_length=256, batch_size=2)
    model = model_on(device, "bfloat16")
    plain = train(config, model, dataset, tmp_path / "plain")
    checkpointed = config.model_copy(update={"gradient_checkpointing": True})
    recomputed = train(checkpointed, model, dataset, tmp_path / "recomputed")
    for name in ("loss", "grad_norm"):
        expected = [getattr(metrics, name) for metrics in plain.history[1:]]
        assert [getattr(metrics, name) for metrics in recomputed.history[1:]] == pytest.approx(expected, rel=0.02)
