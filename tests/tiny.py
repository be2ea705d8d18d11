"""Tiny real models, adapters and datasets, made in a moment."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedTokenizerFast

from loraline.artifacts.dataset_files import EVAL_ROWS
from loraline.data.rows import Row, RowWriter

VOCABULARY = 320
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer(chat_template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes: one token a byte, and tokens for roles and ends."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|eos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*special, *alphabet])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|eos|>", additional_special_tokens=special[1:])
    made.chat_template = chat_template
    return made


def llama(**settings: Any) -> LlamaConfig:
    """Configuration of a Llama of some ten thousand parameters."""
    return LlamaConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
            "initializer_range": 0.2,
            "eos_token_id": 0,
            **settings,
        }
    )


def save_model(
    folder: Path,
    config: PretrainedConfig | None = None,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "5GB",
    chat_template: str | None = CHAT_TEMPLATE,
) -> Path:
    """Write a model folder with random weights, the same each time."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config or llama(), dtype=dtype)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer(chat_template).save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path, base_digest: str = "", **settings: Any) -> Path:
    """Write an adapter for a base, with random weights that change a lot."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**settings))
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_magnitude" in name:
            weight.data *= 1 + 0.2 * torch.rand(weight.shape, generator=generator)
        elif "lora_" in name:
            weight.data = 0.2 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    if base_digest:
        (folder / "training.json").write_text(json.dumps({"base_digest": base_digest}))
    return folder


def chat(prompt: str, answer: str, *before: dict[str, str]) -> Row:
    """A row with a user's message and an answer, behind the messages that came before."""
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Row.of(messages=[*before, *turns], origin=f"rows.jsonl:{len(prompt)}")


def save_dataset(folder: Path, rows: list[Row]) -> Path:
    """Write a dataset folder with these rows to evaluate on."""
    folder.mkdir(parents=True, exist_ok=True)
    with RowWriter(folder / EVAL_ROWS) as writer:
        for row in rows:
            writer.write(row)
    return folder
