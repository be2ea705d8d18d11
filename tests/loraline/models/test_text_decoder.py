"""`all-linear` is the text decoder's linear layers; a tower has no adapter, and a name that lies in one is refused."""

import pytest
import torch
from transformers import PreTrainedModel

from loraline.errors import ConfigurationError
from loraline.models.auto_class import auto_class
from loraline.models.target_modules import ALL_LINEAR, target_layers, unreachable_targets
from loraline.training.adapter import add_adapter
from loraline.training.config import TrainConfig
from tests.families.families import family


def meta_model(model_type: str) -> PreTrainedModel:
    config = family(model_type).config()
    with torch.device("meta"):
        model: PreTrainedModel = auto_class(config).from_config(config)
    return model


@pytest.mark.parametrize("model_type", ["gemma3", "mistral3", "phi4_multimodal"])
def test_layers_of_towers_are_no_targets(model_type: str) -> None:
    model = meta_model(model_type)
    for targets in (ALL_LINEAR, ["q_proj", "qkv_proj", "fc1", "gate_proj", "gate_up_proj"]):
        selected = target_layers(model, targets)
        assert selected
        assert not [name for name in selected if "vision" in name or "embed_tokens_extend" in name or "head" in name]


def test_a_target_in_a_tower_is_refused_with_the_reason() -> None:
    model = meta_model("gemma3")
    with pytest.raises(ConfigurationError, match=r"'fc1' is 'model\.vision_tower\..*': it is not in the text decoder"):
        add_adapter(model, TrainConfig(target_modules=["q_proj", "fc1"]))


def test_weights_that_kernels_read_are_no_targets() -> None:
    model = meta_model("mamba")
    assert {name.rsplit(".", 1)[-1] for name in target_layers(model, ALL_LINEAR)} == {"in_proj"}
    assert "reads its weight past an adapter" in unreachable_targets(model, ["in_proj", "out_proj"])[0]
