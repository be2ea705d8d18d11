"""On which device a model runs, in which type, with which attention: what was asked for, settled on this machine."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from loraline.errors import ModelLoadingError
from loraline.models.folder import load_config, read_manifest

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
