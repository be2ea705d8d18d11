"""Tiny random models of many families, each saved as its publishers save it.

A family stands here by its `model_type` and by what its configuration needs to be tiny. Composed models (with towers
for images or sound) are saved whole, under the names that their checkpoints on the Hub have.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig

from loraline.artifacts.base_model import ModelManifest
from loraline.models.folder import write_manifest
from tests.tiny import VOCABULARY, tokenizer

_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}
_EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
_LATENT: dict[str, Any] = {  # DeepSeek's attention with compressed keys and values
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "head_dim": 8,
}
_GPT: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "n_inner": 48}
_NO_DROPOUT: dict[str, Any] = {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}
_LINEAR_ATTENTION: dict[str, Any] = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}


@dataclass(frozen=True)
class Family:
    """A family of models, and how a tiny one is made."""

    model_type: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the configuration, over the common ones; None: without that."""
    text: dict[str, Any] | None = None
    """Of a composed model: the settings of its text decoder, over the common ones."""
    vision: dict[str, Any] | None = None
    quick: bool = False
    """Whether `make test` tries it."""

    def config(self) -> PreTrainedConfig:
        """The tiny configuration."""
        if self.text is None:
            settings = {name: value for name, value in {**_TEXT, **self.settings}.items() if value is not None}
            return AutoConfig.for_model(self.model_type, **settings)
        parts = {"text_config": {**_TEXT, **self.text}}
        if self.vision is not None:
            parts["vision_config"] = {**_VISION, **self.vision}
        return AutoConfig.for_model(self.model_type, **parts, **self.settings)

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        """Write a model folder with random weights."""
        config = self.config()
        auto: Any = AutoModelForCausalLM if self.text is None else AutoModelForImageTextToText
        torch.manual_seed(0)
        model = auto.from_config(config, dtype=dtype)
        generator = np.random.default_rng(5)
        for _, weight in sorted(model.named_parameters()):
            drawn = torch.from_numpy(generator.normal(scale=0.1, size=tuple(weight.shape)))
            weight.data = (drawn if weight.dim() > 1 else weight.data + drawn).to(dtype)
        model.save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        write_manifest(folder, ModelManifest(source=self.model_type, device="cpu", compute_dtype="float32"))
        return folder


FAMILIES = [
    Family("llama"),
    Family("qwen2"),
    Family("qwen3"),
    Family(
        "qwen3_5",
        {"image_token_id": 1, "video_token_id": 2, "vision_start_token_id": 3, "vision_end_token_id": 4},
        text=_LINEAR_ATTENTION,
        vision={"depth": 1, "num_heads": 4, "out_hidden_size": 32, "num_position_embeddings": 16},
        quick=True,
    ),
    Family("qwen3_moe", {**_EXPERTS, "decoder_sparse_step": 1}, quick=True),
    Family("qwen3_next", {**_EXPERTS, **_LINEAR_ATTENTION, "shared_expert_intermediate_size": 24}),
    Family("qwen2_moe", {**_EXPERTS, "shared_expert_intermediate_size": 24}),
    Family("mistral", {"sliding_window": 24}),
    Family("ministral", {"sliding_window": 24}),
    Family("ministral3"),
    Family(
        "mistral3",
        {"image_token_index": 1},
        text={"model_type": "ministral3"},
        vision={"model_type": "pixtral"},
        quick=True,
    ),
    Family("mixtral", _EXPERTS),
    Family("gemma"),
    Family("gemma2", {"sliding_window": 24, "query_pre_attn_scalar": 8}),
    Family("gemma3_text", {"sliding_window": 24, "query_pre_attn_scalar": 8}),
    Family(
        "gemma3",
        {"mm_tokens_per_image": 4, "image_token_index": 1, "boi_token_index": 2, "eoi_token_index": 3},
        text={"sliding_window": 24, "query_pre_attn_scalar": 8},
        vision={},
        quick=True,
    ),
    Family(
        "gemma3n_text",
        {
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCABULARY,
            "laurel_rank": 4,
            "num_kv_shared_layers": 0,
            "altup_num_inputs": 2,
            "layer_types": ["sliding_attention", "full_attention"],
            "activation_sparsity_pattern": [0.0, 0.0],
            "intermediate_size": [48, 48],
        },
    ),
    Family(
        "gemma4_text",
        {
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCABULARY,
            "num_kv_shared_layers": 0,
            "global_head_dim": 8,
        },
    ),
    Family(
        "gemma4",
        {"image_token_id": 1, "boi_token_id": 2, "eoi_token_id": 3, "audio_token_id": 4, "video_token_id": 4},
        text={
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCABULARY,
            "num_kv_shared_layers": 0,
            "global_head_dim": 8,
        },
        vision={},
    ),
    Family("phi"),
    Family("phi3"),
    Family("phimoe", _EXPERTS),
    Family("gpt2", {**_GPT, **_NO_DROPOUT}),
    Family("gpt_neo", {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}),
    Family("gpt_neox"),
    Family("gptj", {**_GPT, "rotary_dim": 4, **_NO_DROPOUT}),
    Family("gpt_bigcode", {**_GPT, **_NO_DROPOUT}),
    Family("codegen", {**_GPT, "rotary_dim": 4, **_NO_DROPOUT, "n_ctx": 256}),
    Family("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}),
    Family("bloom"),
    Family("falcon", {"head_dim": None}),
    Family("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256}),
    Family("olmo"),
    Family("olmo2"),
    Family("olmo3", {"sliding_window": 24}),
    Family("olmoe", _EXPERTS),
    Family("granite", {"logits_scaling": 2.0}),
    Family("granitemoe", _EXPERTS),
    Family(
        "granitemoehybrid",
        {
            **_EXPERTS,
            "layer_types": ["mamba", "attention"],
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_state": 8,
            "shared_intermediate_size": 24,
        },
    ),
    Family("cohere", {"use_qk_norm": True}),
    Family("cohere2", {"sliding_window": 24}),
    Family("starcoder2"),
    Family("stablelm"),
    Family("smollm3"),
    Family("exaone4"),
    Family("glm"),
    Family("glm4"),
    Family("glm4_moe", {**_EXPERTS, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}),
    Family("deepseek_v2", {**_EXPERTS, **_LATENT, "topk_method": "greedy"}),
    Family("deepseek_v3", {**_EXPERTS, **_LATENT}),
    Family("gpt_oss", {**_EXPERTS, "sliding_window": 24}),
    Family("llama4_text", {**_EXPERTS, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 2}),
    Family(
        "llama4",
        {"image_token_index": 1, "boi_token_index": 2, "eoi_token_index": 3},
        text={**_EXPERTS, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 2},
        vision={
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
            "pixel_shuffle_ratio": 0.5,
        },
    ),
    Family("mamba", {"state_size": 4}),
    Family("mamba2", {"state_size": 8, "num_heads": 8, "n_groups": 1}),
    Family("falcon_mamba", {"state_size": 4}),
    Family("falcon_h1", {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8}),
    Family(
        "jamba",
        {
            **_EXPERTS,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "use_mamba_kernels": False,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
        },
    ),
    Family("bamba", {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "attn_layer_indices": [1]}),
    Family("nemotron"),
    Family(
        "nemotron_h",
        {
            "layers_block_type": ["mamba", "attention", "mlp"],
            "num_hidden_layers": 3,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 1,
        },
    ),
    Family("lfm2", {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8}),
    Family("recurrent_gemma", {"lru_width": 32, "attention_window_size": 24, "num_hidden_layers": 3}),
    Family(
        "phi4_multimodal",
        {
            "vision_config": _VISION,
            "audio_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_blocks": 1,
                "num_attention_heads": 4,
                "ext_pw_out_channel": 32,
                "nemo_conv_channels": 32,
                "kernel_size": 3,
                "depthwise_separable_out_channel": 32,
                "input_size": 16,
                "feature_layer": -2,
            },
        },
    ),
    Family("llava", {"image_token_index": 1}, text={"model_type": "llama"}, vision={"model_type": "clip_vision_model"}),
    Family(
        "qwen2_5_vl",
        {"image_token_id": 1, "video_token_id": 2, "vision_start_token_id": 3, "vision_end_token_id": 4},
        text={"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        vision={"depth": 1, "num_heads": 4, "out_hidden_size": 32, "fullatt_block_indexes": [0]},
    ),
    Family(
        "qwen3_vl",
        {"image_token_id": 1, "video_token_id": 2, "vision_start_token_id": 3, "vision_end_token_id": 4},
        text={"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
        vision={
            "depth": 1,
            "num_heads": 4,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
    ),
    Family("seed_oss"),
    Family("ernie4_5"),
    Family("hunyuan_v1_dense"),
    Family("nanochat"),
    Family("helium"),
    Family("xglm", {"d_model": 32, "attention_heads": 4, "num_layers": 2, "ffn_dim": 48, "dropout": 0.0}),
    Family("persimmon"),
]


def family(model_type: str) -> Family:
    """The family of that name."""
    return next(one for one in FAMILIES if one.model_type == model_type)
