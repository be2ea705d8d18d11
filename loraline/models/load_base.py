"""Load the weights of a model folder into memory, on the device and in the dtype that its manifest asks for.

A model folder is a standard Hugging Face directory. The step load_model adds a manifest, loraline.json, with what the
recipe asks for. Device, dtype and attention are resolved anew by each step that loads the model, because a step may
run on a different machine than the one before it.
"""

import logging
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from loraline.errors import ModelLoadingError
from loraline.models.auto_class import auto_class
from loraline.models.bitsandbytes_layers import prepare_quantized, quantization_config, unquantized_layers
from loraline.models.device import DTYPES, resolve_device
from loraline.models.folder import load_config, read_manifest
from loraline.models.grouped_experts import use_packed_experts
from loraline.models.meta_model import build_meta_model
from loraline.models.quantized_experts import quantizable_experts, quantize_experts

_SHOWN_WEIGHTS = 5


def load_base(folder: Path, quantization: str = "none", to_save: bool = False) -> PreTrainedModel:
    """Load a model without an adapter, quantized or not, frozen and in eval mode.

    Args:
        folder: a model folder.
        quantization: `int8` or `nf4` to quantize weights that are stored in 16 or 32 bit.
        to_save: leave routed experts in the dtype in which they are stored. They are quantized at each loading.

    Raises:
        ModelLoadingError: the weights cannot be loaded, or some are missing.
    """
    quiet_libraries()
    resolved = resolve_device(folder)
    dtype = DTYPES[resolved.compute_dtype]
    config = None
    if quantization != "none":
        config = quantization_config(quantization, dtype, unquantized_layers(build_meta_model(folder, str(folder))))
    packs_experts = not to_save and _has_experts_to_pack(folder, quantization)
    loaded: Any
    try:
        loaded = auto_class(load_config(folder)).from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": "cpu" if packs_experts else resolved.device},
            attn_implementation=resolved.attention,
            trust_remote_code=read_manifest(folder).trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **({"quantization_config": config} if config else {}),
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, NotImplementedError) as error:
        raise ModelLoadingError(f"the model in {folder} cannot be loaded on {resolved.device}: {error}") from error
    model, loading_info = loaded
    refuse_missing_weights(folder, loading_info)
    prepare_quantized(model, dtype)
    model.requires_grad_(False)
    if packs_experts:
        quantize_experts(model, torch.device(resolved.device))
        use_packed_experts(model)
    frozen: PreTrainedModel = model.eval()
    return frozen


def _has_experts_to_pack(folder: Path, quantization: str) -> bool:
    """Whether the model has routed experts that are to be held in NF4."""
    if "nf4" not in (quantization, read_manifest(folder).quantization):
        return False
    return bool(quantizable_experts(build_meta_model(folder, str(folder))))


def quiet_libraries() -> None:
    """Turn off transformers' progress bars, and bitsandbytes' log line for each int8 layer and call."""
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


def refuse_missing_weights(folder: Path, loading_info: dict[str, Any]) -> None:
    """Fail where transformers initialized missing weights at random, for which it only logs a warning."""
    missing = sorted(loading_info["missing_keys"]) + sorted(str(key) for key in loading_info["mismatched_keys"])
    if missing:
        hidden = len(missing) - _SHOWN_WEIGHTS
        shown = ", ".join(missing[:_SHOWN_WEIGHTS]) + (f" and {hidden} more" if hidden > 0 else "")
        raise ModelLoadingError(
            f"{folder} lacks weights that its config.json needs: {shown}; the files do not belong together, fetch the "
            "model again"
        )
