"""The memory estimate: its figures are those of real models, and its suggestions suffice."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM, MixtralConfig, Qwen2Config

from loraline.errors import ConfigurationError, ModelLoadingError
from loraline.models import accelerators, activations
from loraline.models.config import ModelConfig
from loraline.models.footprint import FootprintConfig
from loraline.models.memory_estimate import MemoryEstimate, estimate_memory
from tests.loraline import tiny_models

FOOTPRINT = FootprintConfig(
    rank=8,
    target_modules=["all-linear"],
    dropout=0.0,
    use_dora=False,
    max_length=256,
    batch_size=2,
    gradient_checkpointing=False,
)
LLAMA_8B = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
)
BIG = FootprintConfig(
    rank=16,
    target_modules=["all-linear"],
    dropout=0.0,
    use_dora=False,
    max_length=2048,
    batch_size=4,
    gradient_checkpointing=False,
)


def _source(folder: Path, config: object) -> str:
    config.save_pretrained(folder)  # type: ignore[attr-defined]
    return str(folder)


@pytest.fixture(scope="module")
def llama_8b(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _source(tmp_path_factory.mktemp("8b"), LLAMA_8B)


def _size(estimate: MemoryEstimate, name: str) -> int:
    return next(item.size for item in estimate.items if item.name == name)


def test_known_figures_of_llama_8b(llama_8b: str) -> None:
    estimate = estimate_memory(ModelConfig(source=llama_8b), BIG, "H200")
    assert estimate.parameters == 8_030_261_248
    assert estimate.trainable_parameters == 41_943_040
    assert _size(estimate, "weights") == pytest.approx(2 * estimate.parameters, rel=1e-3)
    assert _size(estimate, "optimizer") == 2 * _size(estimate, "gradients") == 8 * estimate.trainable_parameters
    assert estimate.fits
    assert not estimate.changes


def test_nf4_weights_are_about_four_bits(llama_8b: str) -> None:
    estimate = estimate_memory(ModelConfig(source=llama_8b, quantization="nf4"), BIG, "H200")
    embeddings = 2 * 128256 * 4096
    assert _size(estimate, "weights") == pytest.approx(
        (estimate.parameters - embeddings) * 4.127 / 8 + 2 * embeddings, rel=1e-3
    )


def test_suggested_changes_make_training_fit(llama_8b: str) -> None:
    estimate = estimate_memory(ModelConfig(source=llama_8b), BIG, "RTX-4090")
    assert not estimate.fits
    assert all(change.fits and change.needed < estimate.needed for change in estimate.changes)
    assert "training.gradient_checkpointing=true" in estimate.explain()
    suggested = next(change for change in estimate.changes if change.setting == "training.gradient_checkpointing=true")
    followed = estimate_memory(
        ModelConfig(source=llama_8b), BIG.model_copy(update={"gradient_checkpointing": True}), "RTX-4090"
    )
    assert followed.needed == suggested.needed


def test_changes_are_combined_where_none_suffices(llama_8b: str) -> None:
    estimate = estimate_memory(ModelConfig(source=llama_8b), BIG, "T4")
    (change,) = estimate.changes
    assert change.fits
    assert change.setting.count("=") > 1
    assert "model.quantization=nf4" in change.setting


@pytest.mark.parametrize(
    "config", [Qwen2Config(), GPT2Config(), MixtralConfig(num_hidden_layers=2)], ids=lambda one: one.model_type
)
def test_any_family_is_estimated(config: object, tmp_path: Path) -> None:
    estimate = estimate_memory(ModelConfig(source=_source(tmp_path, config)), FOOTPRINT, "H100")
    assert len(estimate.items) == 7
    assert all(item.size > 0 for item in estimate.items)


def test_an_unknown_accelerator_is_an_error_that_lists_the_known_ones(llama_8b: str) -> None:
    with pytest.raises(ConfigurationError, match=r"'H300' is unknown.*A100-40GB"):
        estimate_memory(ModelConfig(source=llama_8b), BIG, "H300")


def test_an_unsupported_architecture_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelLoadingError, match="not a causal language model"):
        estimate_memory(ModelConfig(source=str(tmp_path)), FOOTPRINT, "H100")


def test_a_model_that_cannot_be_traced_is_estimated_by_formula(llama_8b: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = estimate_memory(ModelConfig(source=llama_8b), BIG, "H200")

    def refuse(*_: object, **__: object) -> int:
        raise NotImplementedError

    monkeypatch.setattr(activations, "saved_bytes", refuse)
    by_formula = estimate_memory(ModelConfig(source=llama_8b), BIG, "H200")
    assert _size(by_formula, "activations") == pytest.approx(_size(counted, "activations"), rel=0.3)
    assert "2205.05198" in next(item.basis for item in by_formula.items if item.name == "activations")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_activations_are_those_that_a_real_forward_pass_saves(attention: str) -> None:
    """The count on the meta device against the tensors that autograd saves for a real model with PEFT."""
    config = tiny_models.config(hidden_size=128, intermediate_size=384)
    batch, length = 2, 256
    with torch.device("meta"):
        shape = LlamaForCausalLM(config)
    linear = [m for m in shape.model.modules() if isinstance(m, torch.nn.Linear)]
    shape.requires_grad_(False)
    counted = activations.saved_bytes(shape, linear, batch, length, eager=attention == "eager")
    assert counted == pytest.approx(_saved_by_autograd(config, attention, batch, length), rel=0.25)


def _saved_by_autograd(config: LlamaConfig, attention: str, batch: int, length: int) -> int:
    base = LlamaForCausalLM(config)
    base.set_attn_implementation(attention)
    model = get_peft_model(base, LoraConfig(r=1, target_modules="all-linear"))
    model.enable_input_require_grads()
    weights = {weight.untyped_storage().data_ptr() for weight in (*model.parameters(), *model.buffers())}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        base.model(input_ids=torch.zeros(batch, length, dtype=torch.long), use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def test_an_old_gpu_computes_in_float16() -> None:
    assert accelerators.named_dtype("T4") == torch.float16
    assert accelerators.named_dtype("L4") == torch.bfloat16
