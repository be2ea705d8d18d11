"""The scaling of positions in a GGUF file, as transformers' `rope_parameters`: transformers does not read it itself.

Llama 3's is not stated: llama.cpp's converter writes the factor by which it slows each frequency down as a tensor, from
which the setting is found again.
"""

import math
from pathlib import Path
from typing import Any

from loraline.errors import ModelLoadingError
from loraline.models.gguf_header import GgufHeader

_FACTORS = "rope_freqs.weight"
_STATED = ("linear", "yarn")
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""As in all models of Llama 3.1 to 3.3."""


def position_problem(header: GgufHeader) -> str:
    """What a header says about positions that cannot be carried over; empty where there is nothing."""
    if header.architecture == "gpt-oss":  # which transformers reads
        return ""
    kind = _kind(header)
    tensors = [name for name in header.tensors if name.startswith("rope_")]
    if kind not in ("none", *_STATED) or (kind in _STATED and _value(header, "factor") is None):
        return f"rope.scaling.type {kind!r}"
    return "" if tensors in ([], [_FACTORS]) else ", ".join(tensors)


def scaled_positions(path: Path, header: GgufHeader, theta: float) -> dict[str, Any]:
    """The `rope_parameters` of a file's positions beside `rope_theta`; empty where they are not scaled.

    Args:
        path: the file.
        header: its header, without a `position_problem`.
        theta: base of the frequencies.

    Raises:
        ModelLoadingError: the factors of the frequencies are none of Llama 3's.
    """
    if header.architecture == "gpt-oss":
        return {}
    if (kind := _kind(header)) in _STATED:
        original = _value(header, "original_context_length")
        length = {"original_max_position_embeddings": int(original)} if kind == "yarn" and original else {}
        return {"rope_type": kind, "factor": float(_value(header, "factor")), **length}
    if _FACTORS not in header.tensors:
        return {}
    from gguf import GGUFReader

    tensor = next(tensor for tensor in GGUFReader(path).tensors if tensor.name == _FACTORS)
    factors = [float(factor) for factor in tensor.data.flatten()]
    found = {"rope_type": "llama3", "factor": round(max(factors), 3), **_LLAMA3}
    expected = _llama3_factors(len(factors), theta, found)
    if not all(math.isclose(*pair, rel_tol=1e-3) for pair in zip(factors, expected, strict=True)):
        raise ModelLoadingError(
            f"{path} scales its positions by factors ({_FACTORS}) that are not Llama 3's: it would be another model. "
            "Take the model that the file was made from, as safetensors"
        )
    return found


def _llama3_factors(count: int, theta: float, settings: dict[str, Any]) -> list[float]:
    """By how much each frequency is slowed down (Llama 3.1's rule, as in transformers' `rope_type` llama3)."""
    low, high, original = (settings[name] for name in _LLAMA3)
    factors = []
    for at in range(count):
        turns = original / (2 * math.pi * theta ** (at / count))  # of the frequency, in the original context
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        factors.append(1 / ((1 - smooth) / settings["factor"] + smooth))
    return factors


def _kind(header: GgufHeader) -> str:
    return str(_value(header, "type") or "none")


def _value(header: GgufHeader, name: str) -> Any:
    return header.metadata.get(f"{header.architecture}.rope.scaling.{name}")
