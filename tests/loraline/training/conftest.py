"""Tiny real models with a tokenizer, and small prepared datasets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from loraline.artifacts.base_model import ModelManifest
from loraline.data.rows import Row, RowWriter
from loraline.models.folder import write_manifest

_SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_GROUPED = {"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1},
    "gemma2": {"sliding_window": 12, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "gemma3_text": {"sliding_window": 12},
    "phi3": {"sliding_window": 12},
    "mistral": {"sliding_window": 12},
    "gpt_neox": {},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "granite": {"logits_scaling": 2.0, "attention_multiplier": 0.3},
    "bloom": {},
    "mamba": {"state_size": 4},
    "mixtral": _EXPERTS,
    "qwen3_moe": _EXPERTS,
    "qwen3_next": {
        **_EXPERTS,
        **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8},
        **{"linear_value_head_dim": 8, "shared_expert_intermediate_size": 24},
        "layer_types": ["linear_attention", "full_attention"],
    },
    "deepseek_v3": {
        **_EXPERTS,
        **_GROUPED,
        **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
        **{"num_key_value_heads": 4, "head_dim": 8},
    },
    "gpt_oss": {**_EXPERTS, "sliding_window": 12},
    "llama4_text": {**_EXPERTS, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 2, "no_rope_layers": [1, 0]},
    "granitemoe": {**_EXPERTS, "logits_scaling": 2.0},
    "glm4_moe": {**_EXPERTS, **_GROUPED, "n_group": 1},
}


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer for any text, without a chat template."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|turn|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        ["the sum of two"] * 9, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Callable[..., Path]:
    """Creates a folder with a random model of a family, as load_model writes it."""
    made: dict[tuple[str, str], Path] = {}

    def make(family: str = "llama", dtype: str = "float32") -> Path:
        if (family, dtype) not in made:
            folder = tmp_path_factory.mktemp(family)
            torch.manual_seed(1)
            config = AutoConfig.for_model(family, **{**_SIZES, **FAMILIES[family]})
            model = AutoModelForCausalLM.from_config(config)
            for parameter in model.parameters():  # larger than the default initialization, so that attention matters
                if parameter.dim() > 1:
                    torch.nn.init.normal_(parameter, std=0.1)
            model.to(getattr(torch, dtype)).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            write_manifest(folder, ModelManifest(source=family, device="cpu", compute_dtype=dtype))
            made[family, dtype] = folder
        return made[family, dtype]

    return make


def write_rows(folder: Path, train: list[Row], evaluation: list[Row]) -> Path:
    """Write a dataset folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("eval", evaluation)):
        with RowWriter(folder / f"{name}.parquet") as writer:
            for row in rows:
                writer.write(row)
    return folder


def chat_row(number: int) -> Row:
    """A row with an answer that can be learned, and a length of its own."""
    user = {"role": "user", "content": f"copy {number} " + "x" * (number % 17)}
    return Row.of(messages=[user, {"role": "assistant", "content": f"{number} {number}"}], origin=f"rows:{number}")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty training rows and eight evaluation rows."""
    return write_rows(
        tmp_path_factory.mktemp("dataset"), [chat_row(i) for i in range(60)], [chat_row(i) for i in range(100, 108)]
    )
