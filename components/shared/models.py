"""A model folder, brought into memory: on which device, in which type, with which attention.

A model folder is a standard Hugging Face directory. Beside its files `load_model` leaves a manifest,
loraline.json, with what the recipe asked for. What was asked for is settled anew by each step that loads the
model, because a step may run on another machine than the one before it.
"""

import importlib.util
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedModel,
)

from components.shared.errors import AdapterError, ModelLoadingError
from components.shared.model_folder import read_manifest

if TYPE_CHECKING:
    from peft import PeftModel

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_AMPERE = 8  # the first compute capability that flash-attn 2 runs on


@dataclass(frozen=True)
class Placement:
    """Where and how a model runs on this machine."""

    device: torch.device
    dtype: torch.dtype
    attention: str
    attention_reason: str

    def taken(self) -> dict[str, str]:
        """Say it in words, for a report."""
        return {
            "device": str(self.device),
            "compute_dtype": str(self.dtype).removeprefix("torch."),
            "attention": self.attention,
            "attention_reason": self.attention_reason,
        }


def pick_device(requested: str = "auto") -> torch.device:
    """Take CUDA, else MPS, else the CPU; or what was asked for.

    Raises:
        ModelLoadingError: the device that was asked for is not here.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        requested = next(name for name, available in here.items() if available)
    if not here[requested]:
        available = ", ".join(name for name, present in here.items() if present)
        raise ModelLoadingError(
            f"model.device is {requested!r}, but this machine has only {available}; set model.device=auto"
        )
    return torch.device(requested)


def pick_dtype(device: torch.device, requested: str = "auto") -> torch.dtype:
    """Take the 16-bit type that the device is fast with, else float32; or what was asked for.

    Raises:
        ModelLoadingError: bfloat16 was asked for on a GPU that does not know it.
    """
    if requested != "auto":
        if requested == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ModelLoadingError(
                f"model.compute_dtype is 'bfloat16', which {torch.cuda.get_device_name(device)} does not "
                "support; set model.compute_dtype=float16"
            )
        return DTYPES[requested]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "mps":  # bfloat16 came to Metal with macOS 14
        return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def pick_attention(requested: str, device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Take the fastest attention that can run here, or what was asked for; and why.

    Raises:
        ModelLoadingError: flash_attention_2 was asked for where it cannot run.
    """
    if requested not in ("auto", "flash_attention_2"):
        return requested, "the recipe asks for it"
    obstacle = _flash_obstacle(device, dtype)
    if not obstacle:
        return "flash_attention_2", "flash-attn is installed and runs on this device in 16 bit"
    if requested == "flash_attention_2":
        raise ModelLoadingError(f"model.attention is 'flash_attention_2', but {obstacle}; set model.attention=auto")
    return "sdpa", f"flash_attention_2 cannot be had: {obstacle}"


def _flash_obstacle(device: torch.device, dtype: torch.dtype) -> str:
    if device.type != "cuda":
        return f"it needs a CUDA device, and this is {device.type}"
    if dtype == torch.float32:
        return "it computes in 16 bit only, and the type is float32"
    if torch.cuda.get_device_capability(device)[0] < _AMPERE:
        return f"{torch.cuda.get_device_name(device)} is older than the Ampere generation that it needs"
    if importlib.util.find_spec("flash_attn") is None:
        return "the package flash-attn is not installed"
    return ""


def place(folder: Path) -> Placement:
    """Settle where and how the model in a folder runs on this machine.

    Raises:
        ModelLoadingError: what the recipe asks for cannot be had here.
    """
    manifest = read_manifest(folder)
    device = pick_device(manifest.device)
    dtype = pick_dtype(device, manifest.compute_dtype)
    attention, reason = pick_attention(manifest.attention, device, dtype)
    if manifest.attention == "auto":
        attention, reason = _what_the_family_can(folder, attention, reason)
    return Placement(device, dtype, attention, reason)


def _what_the_family_can(folder: Path, attention: str, reason: str) -> tuple[str, str]:
    """Step down from an attention that the model's own code lacks. Remote code decides for itself."""
    family: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(load_config(folder)), None)
    if family is None:
        return attention, reason
    if attention == "flash_attention_2" and not family._supports_flash_attn:
        attention, reason = "sdpa", f"{family.__name__} has no flash_attention_2"
    if attention == "sdpa" and not family._supports_sdpa:
        attention, reason = "eager", f"{family.__name__} has no sdpa"
    return attention, reason


def load_config(folder: Path) -> transformers.PreTrainedConfig:
    """Read a model folder's configuration.

    Raises:
        ModelLoadingError: there is none, or transformers does not know the architecture.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=read_manifest(folder).trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadingError(
            f"the model configuration in {folder} cannot be read: {error} (a model that brings its own code "
            "runs only with model.trust_remote_code=true)"
        ) from error


def context_length(config: transformers.PreTrainedConfig) -> int | None:
    """Most tokens that a model can read at once; None where it has no limit (ALiBi, state-space models)."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


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
    if not (adapter / "adapter_config.json").exists():
        raise AdapterError(f"{adapter} holds no adapter: adapter_config.json is missing")
    from peft import PeftModel  # takes seconds to import, and only an adapter needs it

    try:
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=trainable)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        name = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
        raise AdapterError(
            f"the adapter in {adapter}, trained on {name}, does not fit this base model: {error}"
        ) from error
