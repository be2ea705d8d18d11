"""GGUF export: finding llama.cpp's converter, running it, and its errors."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from loraline.errors import ConfigurationError, ModelLoadingError
from loraline.export import gguf
from loraline.export.export import export
from tests import tiny


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without llama.cpp."""
    monkeypatch.delenv("LLAMA_CPP_DIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def converter(folder: Path, body: str) -> Path:
    """A converter that fails in its own way."""
    folder.mkdir(exist_ok=True)
    script = folder / "convert_hf_to_gguf.py"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return folder


@pytest.mark.usefixtures("nowhere")
def test_without_a_converter_the_error_says_how_to_install_it(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)git clone .*LLAMA_CPP_DIR.*--format safetensors"):
        export(str(run), tmp_path / "model.gguf", "gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_llama_cpp_dir_without_the_converter(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"has no convert_hf_to_gguf\.py"):
        export(str(run), tmp_path / "model.gguf", "gguf")


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo 'Model TinyForCausalLM is not supported'; exit 3", r"\(exit status 3\)(?s:.*)TinyForCausalLM is not"),
        ("exit 0", "wrote no model"),
        ('echo "no gguf" > "$3"', r"is not a GGUF file: it begins with b'no g'"),
    ],
)
def test_a_converter_that_fails(run: Path, tmp_path: Path, body: str, message: str) -> None:
    converter(tmp_path, body)
    with pytest.raises(ModelLoadingError, match=message):
        export(str(run), tmp_path / "model.gguf", "gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["convert_hf_to_gguf.py"]


def save_sentencepiece_llama(folder: Path, sentencepiece: Any) -> Path:
    """A tiny Llama with a tokenizer of a kind that llama.cpp knows."""
    folder.mkdir()
    text = folder.parent / "corpus.txt"
    text.write_text("\n".join(f"question {i}: {i * 7 % 97} and {i * 31 % 89} is a response" for i in range(2000)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=tiny.VOCABULARY, model_type="bpe",
        byte_fallback=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", **special}))
    AutoModelForCausalLM.from_config(tiny.llama(bos_token_id=1, eos_token_id=2)).save_pretrained(folder)
    return folder


@pytest.mark.skipif(not os.environ.get("LLAMA_CPP_DIR"), reason="LLAMA_CPP_DIR names no checkout of llama.cpp")
def test_the_real_converter(tmp_path: Path) -> None:
    sentencepiece, reading = pytest.importorskip("sentencepiece"), pytest.importorskip("gguf")
    model = save_sentencepiece_llama(tmp_path / "model", sentencepiece)
    (model / "chat_template.jinja").write_text(tiny.CHAT_TEMPLATE)
    done = export(str(model), tmp_path / "model.gguf", "gguf", "f32")
    reader = reading.GGUFReader(done.path)
    assert len(reader.tensors) == gguf.tensors(done.path) == 21
    assert reader.get_field("general.architecture").contents() == "llama"
    assert reader.get_field("tokenizer.chat_template").contents() == tiny.CHAT_TEMPLATE
    (embedding,) = (tensor.data for tensor in reader.tensors if tensor.name == "token_embd.weight")
    expected = AutoModelForCausalLM.from_pretrained(model).get_input_embeddings().weight.detach().numpy()
    assert (embedding == expected).all()
