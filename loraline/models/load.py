"""A model folder, brought into memory: on which device, in which type, with which attention.

A model folder is a standard Hugging Face directory. Beside its files `load_model` leaves a manifest,
loraline.json, with what the recipe asked for. What was asked for is settled anew by each step that loads the
model, because a step may run on another machine than the one before it.
"""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedModel,
)

from loraline.errors import AdapterError, ModelLoadingError
from loraline.models.device import Placement, place
from loraline.models.folder import read_manifest
from loraline.models.peft_files import ADAPTER_CONFIG

if TYPE_CHECKING:
    from peft import PeftModel


def load_model(
    folder: Path, adapter: Path | None = None, trainable: bool = False, quantization: str = "none"
) -> "PreTrainedModel | PeftModel":
    """Load a model, quantized or not, frozen and in eval mode, as its manifest and this machine have it.

    Args:
        folder: a model folder.
        adapter: a PEFT folder to put on top.
        trainable: whether the adapter's weights are to be trained on.
        quantization: `int8` or `nf4` to quantize a model that is stored in 16 or 32 bit, as the quantized folder of
            load_model holds it.

    Raises:
        ModelLoadingError: the weights cannot be loaded, or some are missing.
        AdapterError: the adapter cannot be put on this model.
    """
    base = _load_weights(folder, place(folder), quantization)
    base.requires_grad_(False)
    return (base if adapter is None else _put_adapter(base, adapter, trainable)).eval()


def quantization_config(quantization: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """How bitsandbytes quantizes linear layers, but for the output head; None where it does not.

    nf4 is QLoRA's 4-bit type, with its block constants quantized once more (arXiv 2305.14314); int8 is
    LLM.int8() (arXiv 2208.07339).
    """
    if quantization == "none":
        return None
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _load_weights(folder: Path, placement: Placement, quantization: str) -> PreTrainedModel:
    quiet_libraries()
    config = quantization_config(quantization, placement.dtype)
    loaded: Any
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=placement.dtype,
            device_map={"": placement.device},
            attn_implementation=placement.attention,
            trust_remote_code=read_manifest(folder).trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **({"quantization_config": config} if config else {}),
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelLoadingError(f"the model in {folder} cannot be loaded on {placement.device}: {error}") from error
    model, loading = loaded
    _refuse_made_up_weights(folder, loading)
    prepare_quantized(model, placement.dtype)
    return model


def quiet_libraries() -> None:
    """Leave progress to us, and spare the log bitsandbytes' line for each layer and call of int8."""
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


def _refuse_made_up_weights(folder: Path, loading: dict[str, Any]) -> None:
    """Fail where transformers filled a gap with random weights, of which it only logs a warning."""
    missing = sorted(loading["missing_keys"]) + sorted(str(key) for key in loading["mismatched_keys"])
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ModelLoadingError(
            f"{folder} lacks weights that its config.json promises: {shown}; the files do not belong "
            "together, fetch the model again"
        )


def prepare_quantized(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Make a 4-bit model safe to evaluate and then train on. Does nothing to other models.

    On CPUs with AVX512-BF16 one forward pass in eval mode repacks a Linear4bit's weight into a layout that
    has no backward pass: gradients end without an error. The compute type, which the checkpoint carries from
    the machine that quantized it, becomes this machine's.
    """
    module: Any
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
            module.compute_dtype = dtype
            module.compute_type_is_set = True


def _put_adapter(model: PreTrainedModel, adapter: Path, trainable: bool) -> "PeftModel":
    if not (adapter / ADAPTER_CONFIG).exists():
        raise AdapterError(f"{adapter} holds no adapter: {ADAPTER_CONFIG} is missing")
    from peft import PeftModel  # takes seconds to import, and only an adapter needs it

    try:
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=trainable)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        name = json.loads((adapter / ADAPTER_CONFIG).read_text())["base_model_name_or_path"]
        raise AdapterError(
            f"the adapter in {adapter}, trained on {name}, does not fit this base model: {error}"
        ) from error
