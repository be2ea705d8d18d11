"""Which of transformers' auto classes loads a base as a model that continues text."""

from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
)


def auto_class(config: PreTrainedConfig) -> Any:
    """Choose the auto class of a configuration: the text model alone where transformers has one.

    Some models with an image tower (Mistral 3, LLaVA) are known to transformers as a whole only. They answer text
    without an image as well.
    """
    remote = getattr(config, "auto_map", None) or {}
    is_whole_only = type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and "AutoModelForCausalLM" not in remote
    if is_whole_only and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not config.is_encoder_decoder:
        return AutoModelForImageTextToText
    return AutoModelForCausalLM


def model_class(config: PreTrainedConfig) -> Any:
    """The class of transformers that a configuration is loaded as; None for a model that comes with its own code."""
    is_text = auto_class(config) is AutoModelForCausalLM
    return (MODEL_FOR_CAUSAL_LM_MAPPING if is_text else MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING).get(type(config), None)
