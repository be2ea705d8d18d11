"""The memory estimate against the tensors that training really allocates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutputWithPast

from loraline.data.rows import Row
from loraline.models.config import ModelConfig
from loraline.models.live_bytes import LiveBytes
from loraline.models.load import load_model
from loraline.models.memory_estimate import MemoryEstimate, estimate_memory
from loraline.models.target_modules import ALL_LINEAR
from loraline.training.adapter import add_adapter, trainable_parameters
from loraline.training.collator import collate
from loraline.training.config import TrainConfig
from loraline.training.logit_transform import IDENTITY
from loraline.training.loss import CausalLMLoss, _ChunkedLoss
from loraline.training.memory_facts import LOGITS_CHUNK
from loraline.training.optimizer import create_optimizer
from loraline.training.tokenized_dataset import tokenize
from tests.loraline.training.conftest import FAMILIES, chat_row

ModelMaker = Callable[..., Path]
TOKENS, HIDDEN, VOCABULARY = 1024, 64, 5000


def estimate(model: Path, config: TrainConfig, dtype: str = "float32", quantization: str = "none") -> MemoryEstimate:
    source = ModelConfig(
        source=str(model),
        device="cpu",
        compute_dtype=dtype,  # type: ignore[arg-type]
        quantization=quantization,  # type: ignore[arg-type]
    )
    return estimate_memory(source, config.footprint())


def size(found: MemoryEstimate, name: str) -> int:
    return next(item.size for item in found.items if item.name == name)


def nbytes(tensors: object) -> int:
    return sum(tensor.nbytes for tensor in tensors)  # type: ignore[attr-defined]


@pytest.mark.parametrize("target_modules", [ALL_LINEAR, ["q_proj", "down_proj"], ["model.layers.0.self_attn.v_proj"]])
@pytest.mark.parametrize("use_dora", [False, True])
def test_adapter_gradients_and_optimizer_states(
    make_model: ModelMaker, target_modules: list[str], use_dora: bool
) -> None:
    folder = make_model()
    config = TrainConfig(rank=4, target_modules=target_modules, use_dora=use_dora)
    model = add_adapter(load_model(folder), config)
    parameters = list(trainable_parameters(model).values())
    optimizer = create_optimizer(model, config)
    model(input_ids=torch.arange(9)[None]).logits.square().mean().backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values() if value.dim()]

    found = estimate(folder, config)
    assert found.trainable_parameters == sum(p.numel() for p in parameters)
    assert size(found, "adapter") == nbytes(parameters)
    assert size(found, "gradients") == nbytes(p.grad for p in parameters)
    assert size(found, "optimizer") == nbytes(states)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shape of a model whose logits are the largest tensors."""
    folder = tmp_path_factory.mktemp("wide")
    LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_logits_of_the_chunked_loss(wide: Path, dtype: str) -> None:
    kind = getattr(torch, dtype)
    states = torch.randn(TOKENS, HIDDEN).to(kind).requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN).to(kind)
    positions, labels = torch.arange(TOKENS - 1), torch.randint(0, VOCABULARY, (TOKENS - 1,))
    with LiveBytes(states, weight) as train:
        _ChunkedLoss.apply(states, positions, labels, weight, None, IDENTITY).backward()
    with LiveBytes(states, weight) as evaluate, torch.no_grad():
        _ChunkedLoss.apply(states.detach(), positions, labels, weight, None, IDENTITY)

    found = estimate(wide, TrainConfig(batch_size=1, max_length=TOKENS), dtype)
    largest = max(train.peak, evaluate.peak - size(found, "activations"))  # which the evaluation does not save
    assert size(found, "logits") == pytest.approx(largest, rel=0.02)
    assert largest > 2 * LOGITS_CHUNK * VOCABULARY * kind.itemsize  # logits and probabilities of one chunk


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["gemma2", "granite"])
def test_logits_that_are_capped_or_scaled(
    make_model: ModelMaker, tokenizer: PreTrainedTokenizerFast, family: str, dtype: str
) -> None:
    assert 0.9 < _logits_peak(make_model(family, dtype), tokenizer, ALL_LINEAR, dtype) < 1.05


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_of_a_loss_that_is_not_chunked(
    make_model: ModelMaker, tokenizer: PreTrainedTokenizerFast, dtype: str
) -> None:
    assert 0.5 < _logits_peak(make_model("llama", dtype), tokenizer, ["lm_head"], dtype) < 1.05


def _logits_peak(folder: Path, tokenizer: PreTrainedTokenizerFast, target_modules: list[str], dtype: str) -> float:
    """Peak of what lies between the hidden states and their gradient, as a share of the estimate."""
    config = TrainConfig(rank=1, target_modules=target_modules, batch_size=1, max_length=512)
    base: Any = load_model(folder)
    add_adapter(base, config)
    dataset = tokenize(tokenizer, [Row.of(text="every token is a label. " * 20)], 512)
    (batch,) = collate(dataset, np.array([0]), base.device, packing=False)
    loss = CausalLMLoss(base, batch)
    hidden = base.model(**batch.inputs, use_cache=False).last_hidden_state.detach().requires_grad_()
    base.model.forward = lambda **_: BaseModelOutputWithPast(last_hidden_state=hidden)
    with LiveBytes(hidden, *base.parameters()) as trained:
        loss(batch).backward()
    hidden.requires_grad_(False)
    with LiveBytes(hidden, *base.parameters()) as evaluated, torch.no_grad():
        loss(batch)
    found = estimate(folder, config.model_copy(update={"max_length": int(dataset.lengths[0])}), dtype)
    return max(trained.peak, evaluated.peak - size(found, "activations")) / size(found, "logits")


@pytest.mark.parametrize("target_modules", [ALL_LINEAR, ["lm_head"]], ids=["all-linear", "head"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in ("bloom", "mamba")])
def test_the_estimate_knows_whether_the_loss_is_chunked(
    make_model: ModelMaker, tokenizer: PreTrainedTokenizerFast, family: str, target_modules: list[str]
) -> None:
    folder = make_model(family)
    base = load_model(folder)
    names = {name for name, _ in base.named_modules()}
    tied = base.get_output_embeddings().weight is base.get_input_embeddings().weight
    if target_modules == ["lm_head"] and (tied or "lm_head" not in names):
        pytest.skip("its head takes no adapter")
    config = TrainConfig(rank=2, target_modules=target_modules, batch_size=1, max_length=512)
    add_adapter(base, config)
    dataset = tokenize(tokenizer, [chat_row(1)], 512)
    chunked = CausalLMLoss(base, collate(dataset, np.array([0]), base.device, packing=False)[0]).chunked
    basis = next(item.basis for item in estimate(folder, config).items if item.name == "logits")
    assert chunked == basis.startswith(f"{LOGITS_CHUNK} label positions")


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"dropout": 0.1}], ids=str)
def test_what_a_forward_pass_saves_where_the_adapter_is_not_fused(
    make_model: ModelMaker, changes: dict[str, float]
) -> None:
    """PEFT's own forward pass saves float32 copies, and the fused one the input alone."""
    folder = make_model("llama", "bfloat16")
    config = TrainConfig(rank=2, batch_size=1, max_length=64)
    changed = TrainConfig.model_validate({**config.model_dump(), **changes})
    estimated = [size(estimate(folder, one, "bfloat16"), "activations") for one in (config, changed)]
    saved = [_bytes_after_forward(folder, one) for one in (config, changed)]
    if changed.dropout:
        # The mask of dropout is bool on CUDA, as is estimated, and float32 on a CPU; none is saved for the first three
        # layers, whose input needs no gradient. Six of seven layers have 64 inputs, the last one 96.
        saved[1] -= 3 * 64 * (2 * (6 * 64 + 96) - 3 * 64)
    assert saved[1] - saved[0] == pytest.approx(estimated[1] - estimated[0], rel=0.1)


def _bytes_after_forward(folder: Path, config: TrainConfig) -> int:
    model = add_adapter(load_model(folder), config).train()
    token_ids = torch.arange(64)[None]
    with LiveBytes(token_ids, *model.parameters(), *model.buffers()) as counted:
        logits = model(input_ids=token_ids).logits
        saved = counted.live
    assert logits.requires_grad
    return saved
