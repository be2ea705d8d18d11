"""A GGUF file is a base: dequantized once, with its tokenizer, or refused by its header."""

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import LlamaForCausalLM

from loraline import storage
from loraline.errors import ConfigurationError, ModelLoadingError
from loraline.models.config import ModelConfig
from loraline.models.fetch import fetch_base
from loraline.models.folder import load_tokenizer
from loraline.models.load import load_model
from loraline.sources.model import fetch_config, fetch_tokenizer, parse_model_source, pin_model
from tests import tiny
from tests.loraline.tiny_gguf import merging_tokenizer, tiny_llama, write_gguf

TEXT = "  Two spaces,\n\n5 and 1234.5 the a12 na\u00efve<|end|>"


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return tiny_llama()


@pytest.fixture
def file(tmp_path: Path, model: LlamaForCausalLM) -> Path:
    return write_gguf(tmp_path / "model.gguf", model, merging_tokenizer(), Kind.Q8_0)


def fetch(source: Path | str, folder: Path) -> Path:
    fetch_base(
        ModelConfig(source=str(source), device="cpu"), folder, folder / "quantized", pin_model(str(source)).digest
    )
    return folder


@pytest.mark.parametrize(
    ("kind", "dtype", "similarity"),
    [
        (Kind.F32, torch.float32, 0.9999),
        (Kind.F16, torch.float16, 0.9999),
        (Kind.BF16, torch.bfloat16, 0.999),
        (Kind.Q8_0, torch.bfloat16, 0.999),
        (Kind.Q4_1, torch.bfloat16, 0.8),
    ],
)
def test_a_file_becomes_an_ordinary_16_bit_base(
    kind: Any, dtype: torch.dtype, similarity: float, tmp_path: Path, model: LlamaForCausalLM
) -> None:
    file = write_gguf(tmp_path / "model.gguf", model, merging_tokenizer(), kind)
    folder = fetch(file, tmp_path / "base")
    assert LlamaForCausalLM.from_pretrained(folder).dtype == dtype
    loaded = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        found, expected = loaded(ids).logits, model(ids).logits
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > similarity


def test_the_tokenizer_is_that_of_the_model(file: Path, tmp_path: Path) -> None:
    original = merging_tokenizer()
    fetch_tokenizer(str(file), "", tmp_path / "tokenizer")
    for folder in (fetch(file, tmp_path / "base"), tmp_path / "tokenizer"):
        tokenizer = load_tokenizer(folder)
        assert tokenizer(TEXT)["input_ids"] == original(TEXT)["input_ids"]
        assert tokenizer.chat_template == original.chat_template
        assert tokenizer.eos_token == original.eos_token
        assert len(tokenizer) <= tiny.VOCABULARY
    assert not list((tmp_path / "tokenizer").glob("*.safetensors"))
    assert load_model(tmp_path / "base").config.eos_token_id == original.eos_token_id


def test_the_configuration_alone_is_had_without_weights(file: Path, tmp_path: Path) -> None:
    fetch_config(str(file), "", tmp_path / "config")
    assert {path.name for path in (tmp_path / "config").iterdir()} == {"config.json"}


def test_a_folder_with_one_file_is_that_file(file: Path, tmp_path: Path) -> None:
    assert parse_model_source(str(tmp_path)).gguf == "model.gguf"
    assert pin_model(str(tmp_path)) == pin_model(str(file))
    (tmp_path / "second.gguf").write_bytes(file.read_bytes())
    with pytest.raises(ConfigurationError, match=r"several GGUF files \(model.gguf, second.gguf\)"):
        pin_model(str(tmp_path))


def test_a_tokenizer_beside_the_file_takes_the_place_of_its_own(tmp_path: Path, model: LlamaForCausalLM) -> None:
    source = tmp_path / "source"
    source.mkdir()
    unknown = {"tokenizer__ggml__pre": "never-heard-of"}
    file = write_gguf(source / "model.gguf", model, merging_tokenizer(), **unknown)
    with pytest.raises(ModelLoadingError, match=r"rule 'never-heard-of'.*tokenizer.json .* beside it"):
        pin_model(str(file))
    merging_tokenizer("{{ 'mine' }}").save_pretrained(source)
    assert load_tokenizer(fetch(source, tmp_path / "base")).chat_template == "{{ 'mine' }}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "wavtokenizer-dec"}, "'wavtokenizer-dec', whose GGUF files .* it can .*llama.*qwen3_moe"),
        ({"llama__rope__scaling__type": "yarn"}, "scales its positions .*'yarn'"),
    ],
)
def test_what_transformers_cannot_read_is_refused_by_the_header(
    changes: dict[str, str], message: str, tmp_path: Path, model: LlamaForCausalLM
) -> None:
    file = write_gguf(tmp_path / "model.gguf", model, merging_tokenizer(), **changes)
    with pytest.raises(ModelLoadingError, match=message):
        pin_model(str(file))


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("positions", "stated"),
    [
        (LLAMA3, {}),
        ({"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}, {"type": "linear", "factor": 4.0}),
        (
            {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32},
            {"type": "yarn", "factor": 4.0, "original_context_length": 32},
        ),
    ],
    ids=["llama3", "linear", "yarn"],
)
def test_scaled_positions_are_carried_over(positions: dict[str, Any], stated: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_llama(rope_parameters=positions)
    scaling = {f"llama__rope__scaling__{name}": value for name, value in stated.items()}
    file = write_gguf(tmp_path / "model.gguf", model, merging_tokenizer(), **scaling)
    loaded = LlamaForCausalLM.from_pretrained(fetch(file, tmp_path / "base"))
    ids = torch.arange(5, 125)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=1e-3, atol=1e-3)
        plain = {"rope_type": "default", "rope_theta": positions["rope_theta"]}
        unscaled = LlamaForCausalLM.from_pretrained(tmp_path / "base", rope_parameters=plain)
        assert not torch.allclose(unscaled(ids).logits, model(ids).logits, rtol=1e-3, atol=1e-3)


def test_a_missing_weight_is_never_random(tmp_path: Path, model: LlamaForCausalLM) -> None:
    file = write_gguf(tmp_path / "model.gguf", model, merging_tokenizer(), without="blk.1.ffn_up.weight")
    with pytest.raises(ModelLoadingError, match=r"lacks weights .*model.layers.1.mlp.up_proj.weight"):
        fetch(file, tmp_path / "base")


def test_a_damaged_or_missing_file_is_an_error_that_names_it(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ModelLoadingError, match=r"cut\.gguf is cut off"):
        pin_model(str(cut))
    cut.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelLoadingError, match=r"cut\.gguf is not a GGUF file"):
        pin_model(str(cut))
    with pytest.raises(ModelLoadingError, match=r"nowhere\.gguf"):
        pin_model(str(tmp_path / "nowhere.gguf"))


def test_a_file_on_the_hub_is_named_below_its_repository() -> None:
    source = parse_model_source("owner/model-GGUF/model.Q4_K_M.gguf")
    assert (source.kind, source.location, source.gguf) == ("hub", "owner/model-GGUF", "model.Q4_K_M.gguf")
    commit = "0123456789abcdef0123456789abcdef01234567"
    pins = {pin_model(f"owner/model-GGUF/{name}.gguf", commit).digest for name in ("Q4_K_M", "Q8_0")}
    assert len(pins) == 2


@pytest.mark.usefixtures("s3")
def test_a_file_in_the_object_store(file: Path, tmp_path: Path) -> None:
    storage.upload(file, "s3://models-of-gguf/tiny/model.gguf")
    source = "s3://models-of-gguf/tiny/model.gguf"
    folder = fetch(source, tmp_path / "base")
    assert (folder / "model.safetensors").read_bytes() == (
        fetch(file, tmp_path / "local") / "model.safetensors"
    ).read_bytes()
