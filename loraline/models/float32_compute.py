"""A model that computes in float32 from weights that stay in memory in the 16 bits they are stored in.

A layer's weights are converted to float32 when it runs, and the copies are freed when it has run. Every result has the
bits that it has with all weights in float32, and the weights take half the memory. On a CPU they take none of it:
transformers maps the files into memory, and the operating system reads a page when it is needed and drops it when
memory is short.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from loraline.errors import ModelLoadingError
from loraline.models.auto_class import auto_class
from loraline.models.folder import load_config, read_manifest
from loraline.models.load_base import quiet_libraries
from loraline.models.safetensors_files import FLOAT_DTYPES, read_header, weight_files

_HALF = (torch.float16, torch.bfloat16)


def weights_dtype(folder: Path) -> torch.dtype:
    """The dtype that a model's weights are kept in: that of all its stored tensors, float32 where they are of several.

    Raises:
        ModelLoadingError: there are no weights.
    """
    dtypes = {tensor.dtype for file in weight_files(folder) for tensor in read_header(file)} & FLOAT_DTYPES.keys()
    if not dtypes:
        raise ModelLoadingError(f"{folder} has no weights in 16 or 32 bit")
    return FLOAT_DTYPES[dtypes.pop()] if len(dtypes) == 1 else torch.float32


def load_stored_weights(folder: Path, device: torch.device) -> PreTrainedModel:
    """Load a model with its weights as they are stored, in eval mode. `compute_in_float32` makes it exact.

    Raises:
        ModelLoadingError: there are no weights.
    """
    quiet_libraries()
    model: PreTrainedModel = auto_class(load_config(folder)).from_pretrained(
        folder,
        dtype=weights_dtype(folder),
        device_map={"": device},
        trust_remote_code=read_manifest(folder).trust_remote_code,
        use_safetensors=True,
    )
    _restore_buffers(model)
    return model.eval()


def compute_in_float32(model: Any) -> None:
    """Let each layer of a causal model, with adapters or without, compute in float32 from weights in 16 bit.

    Models read the dtype of their output head before they call it, so that it is converted for a whole forward pass.
    """
    network = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT's `generate` calls this one
    for module, part in [
        (network, network.get_output_embeddings()),
        *((part, part) for part in layers_and_others(network)),
    ]:
        weights = [weight for weight in part.parameters() if weight.dtype in _HALF]
        if weights:
            conversion = _Conversion(weights)
            module.register_forward_pre_hook(conversion.begin)
            module.register_forward_hook(conversion.end, always_call=True)


def layers_and_others(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of a model, and the modules around them that have weights of their own."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        elif next(child.parameters(recurse=False), None) is not None:
            yield child
        else:
            yield from layers_and_others(child)


class _Conversion:
    """Holds weights as they are stored while their float32 copies stand in their place."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        self._weights = weights
        self._stored: list[tuple[nn.Parameter, torch.Tensor]] = []

    def begin(self, module: nn.Module, args: Any) -> None:
        if type(module) is nn.Embedding:
            return  # looks rows up: these alone are converted
        self._stored = [(weight, weight.data) for weight in self._weights]
        for weight, stored in self._stored:
            weight.data = stored.float()

    def end(self, module: nn.Module, args: Any, output: Any) -> Any:
        for weight, stored in self._stored:
            weight.data = stored
        self._stored = []
        return output.float() if type(module) is nn.Embedding else None


def _restore_buffers(model: PreTrainedModel) -> None:
    """Compute in float32 the buffers that a model computes from its configuration; in 16 bit they would be rounded."""
    if model.dtype not in _HALF:
        return
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        exact = type(model)._from_config(model.config, dtype=torch.float32)
    stored = set(model.state_dict())
    for name, buffer in exact.named_buffers():
        if name not in stored and buffer.is_floating_point():
            module, _, attribute = name.rpartition(".")
            holder = model.get_submodule(module)
            holder.register_buffer(attribute, buffer.to(model.device), persistent=False)
