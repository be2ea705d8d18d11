"""The memory estimate against the memory that training uses."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from loraline.artifacts.base_model import ModelManifest
from loraline.data.rows import Row
from loraline.models.config import ModelConfig
from loraline.models.folder import write_manifest
from loraline.models.live_bytes import LiveBytes
from loraline.models.memory_estimate import estimate_memory
from loraline.models.quantize import quantize
from loraline.training.config import TrainConfig
from loraline.training.train import train
from tests.loraline.training.conftest import write_rows

MIB = 2**20
SIZES = {
    # Large enough for weights, activations and logits of tens of megabytes each, and on a GPU of hundreds.
    "cpu": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "vocab_size": 8000},
    "cuda": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 12, "vocab_size": 32000},
}
LENGTH = {"cpu": 256, "cuda": 1024}


class PeakMemory:
    """The peak of the memory that tensors use in a context, in bytes."""

    size = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure tensors: by CUDA's allocator, or on the CPU by counting what operations return."""
    measured = PeakMemory()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield measured
        measured.size = torch.cuda.max_memory_allocated() - before
    else:
        with LiveBytes() as counted:
            yield measured
        measured.size = counted.peak


@pytest.fixture
def base(device: torch.device, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A random Llama, in bfloat16."""
    folder = tmp_path / "base"
    shape: dict[str, Any] = {**SIZES[device.type], "num_attention_heads": 8, "num_key_value_heads": 4}
    config = LlamaConfig(**shape, max_position_embeddings=2048, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_manifest(folder, ModelManifest(source=str(folder), device=device.type, compute_dtype="bfloat16"))
    return folder


@pytest.fixture
def full_rows(device: torch.device, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """Rows that fill a packed row each, and whose tokens are all labels: what the estimate assumes."""
    text = "the sum of two and the sum of two " * LENGTH[device.type]
    return write_rows(tmp_path / "rows", [Row.of(text=f"{i} {text}") for i in range(8)], [])


@pytest.mark.parametrize(
    "changes",
    [{}, {"gradient_checkpointing": True}, {"use_dora": True}, {"dropout": 0.1}],
    ids=["plain", "checkpointing", "dora", "dropout"],
)
def test_training_uses_what_is_estimated(
    device: torch.device, changes: dict[str, Any], base: Path, full_rows: Path, tmp_path: Path
) -> None:
    config = TrainConfig(rank=16, batch_size=2, max_length=LENGTH[device.type], max_steps=2, **changes)
    _compare(config, ModelConfig(source=str(base), device=device.type, compute_dtype="bfloat16"), base, full_rows)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_training_on_a_quantized_base_uses_what_is_estimated(
    device: torch.device, quantization: Literal["nf4", "int8"], base: Path, full_rows: Path, tmp_path: Path
) -> None:
    quantize(base, quantization, tmp_path / "quantized")
    config = TrainConfig(rank=16, batch_size=2, max_length=LENGTH[device.type], max_steps=2)
    source = ModelConfig(source=str(base), device=device.type, compute_dtype="bfloat16", quantization=quantization)
    _compare(config, source, tmp_path / "quantized", full_rows)


def _compare(config: TrainConfig, source: ModelConfig, model: Path, rows: Path) -> None:
    estimate = estimate_memory(source, config.footprint())
    with peak_memory(torch.device(source.device)) as peak:
        train(config, model, rows, model.parent / "adapter")
    shares = ", ".join(f"{item.name} {item.size / MIB:.0f}" for item in estimate.items)
    message = f"estimated {estimate.needed / MIB:.0f} MiB ({shares}), used {peak.size / MIB:.0f} MiB"
    print(message)
    # What is said to fit must fit; and what fits should not be refused.
    assert peak.size < 1.15 * estimate.needed, message
    assert peak.size > 0.8 * estimate.needed, message
