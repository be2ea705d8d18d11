"""A tiny real model as a GGUF file, written with the package gguf as llama.cpp's converter does."""

import json
from pathlib import Path
from typing import Any

import gguf
import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests import tiny

_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_NORMAL, _CONTROL = 1, 3


def tiny_llama(**settings: Any) -> LlamaForCausalLM:
    """A Llama whose rows are whole quantization blocks (32 values)."""
    torch.manual_seed(0)
    return LlamaForCausalLM(tiny.llama(hidden_size=64, intermediate_size=96, tie_word_embeddings=True, **settings))


def merging_tokenizer(chat_template: str | None = tiny.CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """The tokenizer of bytes with a few merges, without which llama.cpp reads no tokenizer of this kind."""
    made = tiny.tokenizer(chat_template)
    state = json.loads(made.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for pair in (("t", "h"), ("th", "e"), ("\u0120", "a"), ("1", "2")):
        vocabulary["".join(pair)] = len(vocabulary)
        state["model"]["merges"].append(pair)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        eos_token=made.eos_token,
        additional_special_tokens=["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"],
        chat_template=chat_template,
    )


def write_gguf(
    path: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    architecture: str = "llama",
    without: str = "",
    **metadata: Any,
) -> Path:
    """Write a Llama and its tokenizer.

    Args:
        path: the file.
        model: the model; its output is tied to its embeddings.
        tokenizer: a byte-level BPE tokenizer.
        kind: how the matrices are stored.
        architecture: what the file calls its architecture.
        without: name of a tensor that is left out.
        metadata: further values, with `__` for a dot.
    """
    writer = gguf.GGUFWriter(path, architecture)
    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    _add_tokenizer(writer, tokenizer, config.vocab_size)
    add = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}
    for key, value in metadata.items():
        add[type(value)](key.replace("__", "."), value)
    for name, weight in _tensors(model).items():
        if name == without:
            continue
        stored = weight.detach().float().numpy()
        is_matrix = stored.ndim == 2
        stored_kind = kind if is_matrix else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(stored, stored_kind), raw_dtype=stored_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerFast, size: int) -> None:
    vocabulary = {index: token for token, index in tokenizer.get_vocab().items()}
    tokens = [vocabulary.get(index, f"[PAD{index}]") for index in range(size)]
    special = set(tokenizer.all_special_tokens) | set(tokenizer.added_tokens_encoder)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if token in special else _NORMAL for token in tokens])
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    writer.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tensors(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    """The weights by llama.cpp's names, queries and keys permuted as its rotary embedding wants them."""
    config, weights = model.config, model.state_dict()
    found = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "output_norm.weight": weights["model.norm.weight"],
    }
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for theirs, ours in _LAYER.items():
            weight = weights[f"model.layers.{layer}.{theirs}.weight"]
            if ours in heads:
                rows, columns = weight.shape
                weight = (
                    weight.view(heads[ours], 2, rows // heads[ours] // 2, columns).swapaxes(1, 2).reshape(rows, columns)
                )
            found[f"blk.{layer}.{ours}.weight"] = weight
    if config.rope_parameters["rope_type"] == "llama3":
        theta, half = config.rope_parameters["rope_theta"], config.hidden_size // config.num_attention_heads // 2
        plain = theta ** -(torch.arange(half) / half)
        found["rope_freqs.weight"] = plain / model.model.rotary_emb.inv_freq
    return found
