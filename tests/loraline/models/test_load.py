"""Device, dtype and attention are resolved with reasons; a model is loaded completely or not at all."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from loraline.artifacts.base_model import ModelManifest
from loraline.errors import AdapterError, ModelLoadingError
from loraline.models.device import pick_attention, pick_device, pick_dtype
from loraline.models.folder import load_tokenizer, read_manifest, write_manifest
from loraline.models.load import load_model
from tests.loraline.tiny_models import save_tiny_model

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 9, 11, 40, 7]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def test_auto_picks_the_best_available_device() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device().type == expected
    assert pick_device("cpu") == CPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_an_unavailable_device_is_an_error_that_lists_the_available_ones() -> None:
    with pytest.raises(ModelLoadingError, match=r"'cuda', but this machine has only .*cpu.*model.device=auto"):
        pick_device("cuda")


def test_a_cpu_computes_in_bfloat16_only_with_native_support(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert pick_dtype(CPU) == torch.bfloat16
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert pick_dtype(CPU) == torch.float32
    assert pick_dtype(CPU, "float16") == torch.float16


def test_attention_falls_back_with_a_reason() -> None:
    attention, reason = pick_attention("auto", CPU, torch.bfloat16)
    assert attention == "sdpa"
    assert "needs a CUDA device" in reason
    assert pick_attention("eager", CPU, torch.bfloat16)[0] == "eager"


def test_flash_attention_that_cannot_run_is_an_error_and_not_a_fallback() -> None:
    with pytest.raises(ModelLoadingError, match="'flash_attention_2', but it needs a CUDA device"):
        pick_attention("flash_attention_2", CPU, torch.bfloat16)
    with pytest.raises(ModelLoadingError, match="16 bit only"):
        pick_attention("flash_attention_2", torch.device("cuda"), torch.float32)


def test_a_plain_folder_loads_frozen_and_in_eval_mode(folder: Path) -> None:
    model = load_model(folder)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert model.dtype == pick_dtype(pick_device())


def test_the_manifest_sets_dtype_and_attention(folder: Path, tmp_path: Path) -> None:
    other = save_tiny_model(tmp_path / "model")
    write_manifest(other, ModelManifest(compute_dtype="float32", device="cpu", attention="eager"))
    model = load_model(other)
    assert model.dtype == torch.float32
    assert model.config._attn_implementation == "eager"


def test_an_invalid_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / ModelManifest.FILE).write_text('{"colour": "red"}')
    with pytest.raises(ModelLoadingError, match="is not a manifest"):
        read_manifest(tmp_path)


def test_missing_weights_are_an_error_and_not_initialized_at_random(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelLoadingError, match=r"lacks weights .*layers\.1\.mlp\.up_proj"):
        load_model(folder)


def test_a_folder_without_weights_or_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadingError, match=str(tmp_path)):
        load_model(tmp_path)
    with pytest.raises(ModelLoadingError, match=str(tmp_path)):
        load_tokenizer(tmp_path)


def test_an_adapter_is_attached_and_can_be_trainable(folder: Path, tmp_path: Path) -> None:
    made = get_peft_model(load_model(folder), LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    made.save_pretrained(str(tmp_path))
    plain, tuned = load_model(folder), load_model(folder, tmp_path, trainable=True)
    assert isinstance(tuned, PeftModel)
    assert not torch.equal(plain(IDS).logits, tuned(IDS).logits)
    assert torch.equal(made.eval()(IDS).logits, tuned(IDS).logits)
    assert {name.split(".")[-3] for name, weight in tuned.named_parameters() if weight.requires_grad} == {
        "lora_A",
        "lora_B",
    }
    assert not any(weight.requires_grad for weight in load_model(folder, tmp_path).parameters())


def test_a_folder_without_adapter_or_with_one_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"adapter_config\.json is missing"):
        load_model(folder, tmp_path)
    made = get_peft_model(load_model(folder), LoraConfig(r=2, target_modules=["q_proj"]))
    made.save_pretrained(str(tmp_path))
    file = tmp_path / "adapter_model.safetensors"
    save_file({name: weight[:, :1].contiguous() for name, weight in load_file(file).items()}, file)
    with pytest.raises(AdapterError, match="does not fit this base model"):
        load_model(folder, tmp_path)
