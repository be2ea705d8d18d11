"""Computing in float32 from weights in 16 bit: the same bits as with all weights in float32, in half the memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from loraline.models.float32_compute import compute_in_float32, load_stored_weights
from loraline.models.live_bytes import LiveBytes
from loraline.models.load import load_model
from loraline.training.adapter import add_adapter, save_adapter
from loraline.training.config import TrainConfig
from tests.loraline.training.conftest import FAMILIES

ModelMaker = Callable[..., Path]
CPU = torch.device("cpu")
TOKENS = torch.arange(3, 40)[None]


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=TOKENS, use_cache=False).logits


@pytest.fixture
def make_adapter(make_model: ModelMaker, tmp_path: Path) -> Callable[..., Path]:
    """Creates a random adapter for a model of a family."""

    def make(family: str, **changes: Any) -> Path:
        torch.manual_seed(2)
        model = add_adapter(load_model(make_model(family, "bfloat16")), TrainConfig(rank=4, **changes))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name:
                    weight.copy_(torch.randn_like(weight) * 0.1)
        save_adapter(model, tmp_path)
        return tmp_path

    return make


def both(folder: Path, adapter: Path) -> list[PeftModel]:
    """The adapter on its base, computing in float32: from float32 weights, and from weights as they are stored."""
    full = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    models = [PeftModel.from_pretrained(base, str(adapter)).eval() for base in (full, load_stored_weights(folder, CPU))]
    compute_in_float32(models[1])
    return models


@pytest.mark.parametrize("family", FAMILIES)
def test_every_bit_is_that_of_float32_weights(
    make_model: ModelMaker, make_adapter: Callable[..., Path], family: str
) -> None:
    folder = make_model(family, "bfloat16")
    full, stored = both(folder, make_adapter(family))
    assert torch.equal(logits(full), logits(stored))
    with full.disable_adapter(), stored.disable_adapter():
        assert torch.equal(logits(full), logits(stored))
    assert {weight.dtype for name, weight in stored.named_parameters() if "lora" not in name} == {torch.bfloat16}


def test_dora_too(make_model: ModelMaker, make_adapter: Callable[..., Path]) -> None:
    full, stored = both(make_model("llama", "bfloat16"), make_adapter("llama", use_dora=True))
    assert torch.equal(logits(full), logits(stored))


def test_one_layer_at_a_time_is_in_float32(make_model: ModelMaker) -> None:
    model: Any = load_stored_weights(make_model("llama", "bfloat16"), CPU)
    compute_in_float32(model)
    layer, head = ([weight.numel() for weight in part.parameters()] for part in (model.model.layers[0], model.lm_head))
    assert len(model.model.layers) > 1
    with LiveBytes(*model.parameters()) as counted:
        logits(model)
    activations = 37 * 4 * (3 * 320 + 8 * 96)  # logits, and the widest states of a layer
    assert 4 * sum(layer) < counted.peak < 4 * (sum(layer) + sum(head)) + activations


def test_what_is_stored_in_several_dtypes_is_loaded_in_float32(make_model: ModelMaker, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(make_model("llama", "float32"), dtype=torch.float32)
    model.lm_head.half()
    model.save_pretrained(tmp_path)
    loaded = load_stored_weights(tmp_path, CPU)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    for name, weight in model.named_parameters():
        assert torch.equal(weight.float(), loaded.get_parameter(name)), name
