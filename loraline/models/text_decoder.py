"""Which linear layers of a model can have an adapter: those of its text decoder, where their own forward pass runs.

Towers for images or sound and their projectors see no text, so that their adapters would get no gradient. Of some
layers the model's code, or a fused kernel, reads the weight without calling the layer, past its adapter.
"""

from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

_READ_DIRECTLY = {
    ("A_log", "D"): ("out_proj", "x_proj", "dt_proj"),  # the mixer of Mamba and its like: fused kernels
    ("correction_coefs", "prediction_coefs"): ("correction_coefs", "prediction_coefs"),  # Gemma 3n, where it clips them
}
"""Layers whose weight is read past an adapter, by attributes that tell the module which they are in."""


_INDEXER = "indexer"
"""In the names of the layers of DeepSeek's sparse attention that rank tokens."""


def linear_layers(model: PreTrainedModel) -> dict[str, Any]:
    """Return all linear layers by name: those of towers and the output head included."""
    # The layers of bitsandbytes are nn.Linear too; GPT-2 and similar families have Conv1D.
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}


def obstacles(model: PreTrainedModel) -> dict[str, str]:
    """Return the linear layers that can have no adapter, by name, each with the reason."""
    found: dict[str, str] = {}
    decoder = _decoder_layers(model)
    for name, layer in linear_layers(model).items():
        if id(layer) not in decoder:
            found[name] = "it is not in the text decoder: text does not pass through it, and it would learn nothing"
        elif _INDEXER in name.split("."):
            found[name] = "it chooses the tokens that are attended to, and a choice has no gradient"
    return found | read_directly(model)


def read_directly(model: PreTrainedModel) -> dict[str, str]:
    """Return the linear layers whose weight is read past the layer, by name, each with the reason.

    An adapter there has no effect, and a quantized weight is no matrix to that code.
    """
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        for attributes, children in _READ_DIRECTLY.items():
            if all(hasattr(module, attribute) for attribute in attributes):
                reason = f"{type(module).__name__} reads its weight past an adapter"
                found |= {f"{name}.{child}": reason for child in children if hasattr(module, child)}
    return found


def _decoder_layers(model: PreTrainedModel) -> set[int]:
    """Ids of the linear layers of the text decoder, and of the output head."""
    own = {type(model.config), type(model.config.get_text_config())}
    parts: list[Any] = [
        part
        for part in model.get_decoder().children()
        # A part with a model inside that is configured apart is a tower (Phi-4 multimodal has them in its embeddings).
        if all(type(one.config) in own for one in part.modules() if isinstance(one, PreTrainedModel))
    ]
    layers = {id(module) for part in parts for module in part.modules()}
    return layers | {id(model.get_output_embeddings())}
