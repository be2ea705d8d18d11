"""Resolve device, dtype and attention implementation: what the recipe asks for, on this machine."""

import importlib.util
from pathlib import Path

import torch

from loraline.artifacts.base_model import ResolvedDevice
from loraline.errors import ModelLoadingError
from loraline.models.auto_class import model_class
from loraline.models.folder import load_config, read_manifest

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
"""The compute dtypes by their names in a recipe."""
_AMPERE = 8  # the lowest compute capability (major version) that flash-attn 2 supports


def resolve_device(folder: Path) -> ResolvedDevice:
    """Resolve device, dtype and attention of a model folder, as its manifest asks for them.

    Raises:
        ModelLoadingError: this machine does not support what the recipe asks for.
    """
    manifest = read_manifest(folder)
    device = pick_device(manifest.device)
    dtype = pick_dtype(device, manifest.compute_dtype)
    attention, reason = pick_attention(manifest.attention, device, dtype)
    if manifest.attention == "auto":
        attention, reason = _supported_by_architecture(folder, attention, reason)
    return ResolvedDevice(
        device=str(device),
        compute_dtype=next(name for name, known in DTYPES.items() if known == dtype),
        attention=attention,
        attention_reason=reason,
    )


def pick_device(requested: str = "auto") -> torch.device:
    """Pick the requested device; auto: CUDA, else MPS, else the CPU.

    Raises:
        ModelLoadingError: the requested device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        requested = next(name for name, is_available in available.items() if is_available)
    if not available[requested]:
        names = ", ".join(name for name, is_available in available.items() if is_available)
        raise ModelLoadingError(
            f"model.device is {requested!r}, but this machine has only {names}; set model.device=auto"
        )
    return torch.device(requested)


def pick_dtype(device: torch.device, requested: str = "auto") -> torch.dtype:
    """Pick the requested dtype; auto: the 16-bit dtype that the device computes in natively, else float32.

    Raises:
        ModelLoadingError: bfloat16 is requested on a GPU that does not support it.
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
    if device.type == "mps":  # Metal supports bfloat16 since macOS 14
        return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def pick_attention(requested: str, device: torch.device, dtype: torch.dtype) -> tuple[str, str]:
    """Pick the requested attention implementation; auto: the fastest that runs here. Also returns the reason.

    Raises:
        ModelLoadingError: flash_attention_2 is requested where it cannot run.
    """
    if requested not in ("auto", "flash_attention_2"):
        return requested, "the recipe asks for it"
    obstacle = _flash_attention_obstacle(device, dtype)
    if not obstacle:
        return "flash_attention_2", "flash-attn is installed and supports this device and dtype"
    if requested == "flash_attention_2":
        raise ModelLoadingError(f"model.attention is 'flash_attention_2', but {obstacle}; set model.attention=auto")
    return "sdpa", f"flash_attention_2 is not available: {obstacle}"


def _flash_attention_obstacle(device: torch.device, dtype: torch.dtype) -> str:
    """Why flash_attention_2 cannot run here; empty if it can."""
    if device.type != "cuda":
        return f"it needs a CUDA device, and this is {device.type}"
    if dtype == torch.float32:
        return "it computes in 16 bit only, and the dtype is float32"
    if torch.cuda.get_device_capability(device)[0] < _AMPERE:
        return f"{torch.cuda.get_device_name(device)} is older than the Ampere generation that it needs"
    if importlib.util.find_spec("flash_attn") is None:
        return "the package flash-attn is not installed"
    return ""


def _supported_by_architecture(folder: Path, attention: str, reason: str) -> tuple[str, str]:
    """Fall back where the model's architecture does not support an implementation; remote code is not checked."""
    architecture = model_class(load_config(folder))
    if architecture is None:
        return attention, reason
    if attention == "flash_attention_2" and not architecture._supports_flash_attn:
        attention, reason = "sdpa", f"{architecture.__name__} does not support flash_attention_2"
    if attention == "sdpa" and not architecture._supports_sdpa:
        attention, reason = "eager", f"{architecture.__name__} does not support sdpa"
    return attention, reason
