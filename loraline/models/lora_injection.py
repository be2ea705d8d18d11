"""Add LoRA layers to a model, in the layout that PEFT saves and loads.

Routed experts are parameters and no layers: PEFT adapts them by `target_parameters`. Of families that had experts as
layers in earlier versions of transformers PEFT rewrites `target_modules`, when it makes an adapter and again when it
loads one: `gate_proj`, `up_proj`, `down_proj` and `gate` become the experts' parameters and the router, and dense
layers and shared experts of these names get nothing. Such layers are therefore named by their weight, as a parameter,
which PEFT does not rewrite, and get an ordinary LoRA layer here. The saved adapter has the same tensors either way.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import cast_adapter_dtype
from peft.utils import _get_submodules
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers import PreTrainedModel

from loraline.models.expert_lora import use_expert_lora
from loraline.models.target_modules import target_experts, target_layers
from loraline.models.text_decoder import linear_layers

_ADAPTER_NAME = "default"
_WEIGHT = ".weight"


@dataclass(frozen=True)
class LoraTargets:
    """What of a model gets an adapter, as PEFT names it."""

    modules: list[str]
    """PEFT's `target_modules`: linear layers."""
    parameters: list[str]
    """PEFT's `target_parameters`: routed experts, and weights of linear layers whose names PEFT would rewrite."""


def lora_targets(model: PreTrainedModel, target_modules: list[str]) -> LoraTargets:
    """Find what `training.target_modules` selects."""
    layers = target_layers(model, target_modules)
    experts = list(target_experts(model, target_modules))
    rewritten = {leaf for leaf in map(_leaf, layers) if _is_rewritten(model, leaf)}
    modules = [name for name in layers if _leaf(name) not in rewritten]
    weights = [f"{name}{_WEIGHT}" for name in layers if _leaf(name) in rewritten]
    return LoraTargets(modules, [*weights, *experts])


def inject_lora(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """Add LoRA layers to a model; weights in float32, with an update of zero.

    Raises:
        ValueError: PEFT cannot add this adapter to the model.
    """
    layers = [name for name in linear_layers(model) if f"{name}{_WEIGHT}" in (config.target_parameters or [])]
    peft_model = get_peft_model(model, _without(config, layers))
    assert isinstance(peft_model, PeftModel)
    tuner: Any = peft_model.base_model
    for name in layers:
        parent, layer, leaf = _get_submodules(model, name)
        tuner._create_and_replace(config, _ADAPTER_NAME, layer, leaf, parent, current_key=name)
    cast_adapter_dtype(peft_model, _ADAPTER_NAME)
    made: Any = peft_model.peft_config[_ADAPTER_NAME]
    made.target_parameters = config.target_parameters
    return peft_model


def attach_lora(model: PreTrainedModel, adapter: Path, trainable: bool) -> PeftModel:
    """Attach an adapter from a PEFT folder to its base.

    Raises:
        OSError, ValueError, KeyError, RuntimeError: the adapter does not fit the base.
    """
    config: Any = PeftConfig.from_pretrained(str(adapter))
    if not getattr(config, "target_parameters", None):
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=trainable)
    # PEFT would wrap also the weight of a linear layer, whose shape is another one where it is quantized.
    config.inference_mode = not trainable
    peft_model = inject_lora(model, config)
    peft_model.load_adapter(str(adapter), _ADAPTER_NAME, is_trainable=trainable)
    use_expert_lora(peft_model)
    return peft_model


def _without(config: LoraConfig, layers: list[str]) -> LoraConfig:
    """A copy of a configuration that does not target the weights of these layers."""
    weights = {f"{name}{_WEIGHT}" for name in layers}
    reduced = copy.deepcopy(config)
    reduced.target_parameters = [name for name in config.target_parameters or [] if name not in weights] or None
    return reduced


def _is_rewritten(model: nn.Module, leaf: str) -> bool:
    """Whether PEFT takes the name of a linear layer for that of an expert's layer, or of a router."""
    config = LoraConfig(target_modules=[leaf])
    try:
        convert_peft_config_for_transformers(config, model, None)
    except ValueError:  # it wants gate_proj and up_proj together
        return True
    return config.target_modules != {leaf}


def _leaf(name: str) -> str:
    return name.rsplit(".", 1)[-1]
