"""Bases whose files are quantized: which can be dequantized into a 16-bit base, by config.json. Needs no torch."""

from typing import Any

DEQUANTIZED = ("bitsandbytes", "compressed-tensors", "fp8", "mxfp4")
"""Methods (`quant_method` in config.json) whose tensors are dequantized."""
_FORMATS = ("float-quantized", "naive-quantized")
"""Formats of compressed-tensors in which a tensor is its stored value times its scale."""


def quantization_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The section of config.json about quantization; empty where the weights are stored as they are.

    Args:
        settings: config.json, parsed.
    """
    text = settings.get("text_config") or {}
    found = settings.get("quantization_config") or settings.get("compression_config") or text.get("quantization_config")
    return dict(found or {})


def quantization_problem(settings: dict[str, Any]) -> str | None:
    """Why a quantized base cannot be dequantized here; None where it can, or is not quantized."""
    section = quantization_of(settings)
    method = section.get("quant_method", "")
    if not section or (method in DEQUANTIZED and (method != "compressed-tensors" or section.get("format") in _FORMATS)):
        return None
    stored = f"{method} ({section['format']})" if section.get("format") else method or "an unnamed method"
    return (
        f"its weights are quantized by {stored}, and a merge needs them in 16 bit: they can be dequantized from "
        f"{', '.join(DEQUANTIZED)} (of compressed-tensors {' and '.join(_FORMATS)}) and from GGUF files. Take the "
        "model that it was made from, with model.quantization=nf4 or int8 to train on it quantized"
    )
