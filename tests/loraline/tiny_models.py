"""Tiny real model folders for the tests of what fetches and loads models."""

from functools import cache
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from loraline.quickstart.scratch_definition import make_tokenizer


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """The scratch model's tokenizer, trained once."""
    return make_tokenizer()


def config(**changes: int) -> LlamaConfig:
    """The shape of a Llama of two layers."""
    sizes = {
        "vocab_size": len(tokenizer()),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaConfig(**{**sizes, **changes})


def save_tiny_model(folder: Path, max_shard_size: str = "5GB") -> Path:
    """Write a Llama of two layers with random weights, and its tokenizer."""
    torch.manual_seed(0)
    LlamaForCausalLM(config()).save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer().save_pretrained(folder)
    return folder
