"""The figures of quantized layers are those of real ones."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from loraline.artifacts.base_model import ModelManifest
from loraline.models.bitsandbytes_layers import BYTES_PER_WEIGHT, is_4bit
from loraline.models.folder import write_manifest
from loraline.models.load import load_model
from loraline.models.load_base import load_base
from tests.families.families import family
from tests.loraline import tiny_models


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_bytes_per_weight_are_those_of_real_layers(quantization: str, tmp_path: Path) -> None:
    config = tiny_models.config(hidden_size=512, intermediate_size=1024, num_hidden_layers=1)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    write_manifest(tmp_path, ModelManifest(device="cpu", compute_dtype="float32"))
    model = load_model(tmp_path, quantization=quantization)
    layers = [layer for layer in model.model.layers.modules() if isinstance(layer, torch.nn.Linear)]
    assert len(layers) == 7
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    tensors = [tensor for layer in layers for tensor in layer.state_dict().values() if isinstance(tensor, torch.Tensor)]
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert stored / weights == pytest.approx(BYTES_PER_WEIGHT[quantization], rel=0.02)


def test_weights_that_code_reads_directly_keep_their_dtype(tmp_path: Path) -> None:
    family("mamba").save(tmp_path)
    model = load_base(tmp_path, "nf4")
    quantized = {name.rsplit(".", 1)[-1] for name, layer in model.named_modules() if is_4bit(layer)}
    assert quantized == {"in_proj"}
