"""A base is fetched with its manifest, and trains in 4 and 8 bits."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from loraline.errors import ModelLoadingError
from loraline.identity.step_identity import step_identity
from loraline.models import accelerators
from loraline.models.config import ModelConfig
from loraline.models.fetch import fetch_base
from loraline.models.folder import load_tokenizer, read_manifest
from loraline.models.load import load_model
from loraline.sources.model import pin_model
from tests.loraline.tiny_models import save_tiny_model


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("source")))


def test_the_base_comes_with_a_manifest(source: str, tmp_path: Path) -> None:
    config = ModelConfig(source=source, compute_dtype="float32", device="cpu")
    report = fetch_base(config, tmp_path / "base", tmp_path / "quantized")
    manifest = read_manifest(tmp_path / "base")
    assert manifest.source == report.source == source
    assert manifest.digest == report.digest
    assert manifest.resolved is not None
    assert (manifest.resolved.device, manifest.resolved.compute_dtype) == ("cpu", "float32")
    assert "CUDA" in manifest.resolved.attention_reason
    assert manifest.identity == step_identity("load_model")
    assert report.parameters == load_model(tmp_path / "base").num_parameters()
    assert not (tmp_path / "quantized").exists()


def test_the_digest_is_of_the_bytes_alone(source: str, tmp_path: Path) -> None:
    digests = [
        fetch_base(ModelConfig(source=source, attention=attention), tmp_path / attention, tmp_path / "q").digest
        for attention in ("eager", "sdpa")
    ]
    assert digests[0] == digests[1]


def test_a_base_that_changed_under_its_name_is_refused(tmp_path: Path) -> None:
    source = save_tiny_model(tmp_path / "source")
    config = ModelConfig(source=str(source))
    pinned = pin_model(config.source).digest
    fetch_base(config, tmp_path / "base", tmp_path / "quantized", pinned)
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ModelLoadingError, match=f"changed while the run was going on: it began with digest {pinned}"):
        fetch_base(config, tmp_path / "again", tmp_path / "quantized", pinned)


def test_this_machine_has_memory() -> None:
    assert accelerators.free_memory(torch.device("cpu")) > 1 << 28


@pytest.fixture(scope="module", params=["nf4", "int8"])
def quantized(request: pytest.FixtureRequest, source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    config = ModelConfig(source=source, quantization=request.param, device="cpu", compute_dtype="float32")
    fetch_base(config, folder / "base", folder / "quantized")
    return folder


def test_a_quantized_base_is_written_quantized(quantized: Path) -> None:
    base, small = read_manifest(quantized / "base"), read_manifest(quantized / "quantized")
    assert base.quantization == "none"
    assert small.quantization == ("nf4" if "nf4" in quantized.name else "int8")
    assert small.digest == base.digest
    config = json.loads((quantized / "quantized" / "config.json").read_text())["quantization_config"]
    if small.quantization == "nf4":
        assert (config["bnb_4bit_quant_type"], config["bnb_4bit_use_double_quant"]) == ("nf4", True)
    sizes = [(quantized / name / "model.safetensors").stat().st_size for name in ("base", "quantized")]
    assert sizes[1] < sizes[0]
    assert load_tokenizer(quantized / "quantized").chat_template


def test_a_quantized_base_is_near_its_base(quantized: Path) -> None:
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        whole, small = (load_model(quantized / name)(ids).logits for name in ("base", "quantized"))
    similarity = torch.cosine_similarity(whole.float().flatten(), small.float().flatten(), dim=0)
    assert 0.9 < similarity < 1


def test_a_quantized_base_trains_after_an_evaluation_in_between(quantized: Path) -> None:
    """On some CPUs one forward pass in eval mode ends all gradients of 4-bit layers, without an error."""
    torch.manual_seed(0)
    base = load_model(quantized / "quantized")
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    ids = torch.randint(6, 300, (4, 16))
    losses = []
    for step in range(12):
        if step % 4 == 2:
            model.eval()
            model.generate(input_ids=ids[:1, :4], attention_mask=torch.ones(1, 4), max_new_tokens=2)
        model.train()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        gradients = {n: w.grad.abs().sum().item() for n, w in model.named_parameters() if "lora_B" in n}
        assert all(gradients.values()), f"no gradient in step {step}"
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[3] < losses[0]
