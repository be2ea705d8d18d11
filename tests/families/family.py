"""A family of models, and how a tiny random one is made and saved."""

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
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
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
            parts["vision_config"] = {**VISION, **self.vision}
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
