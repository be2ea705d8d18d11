"""Write a quantized copy of a base model, so that later steps load it without quantizing it again."""

from pathlib import Path
from typing import Literal

from transformers import PreTrainedModel

from loraline import progress
from loraline.errors import ModelLoadingError
from loraline.models.experts import expert_parameters
from loraline.models.folder import load_tokenizer, read_manifest, write_manifest
from loraline.models.load_base import load_base
from loraline.models.quantized_experts import quantizable_experts


def quantize(base: Path, quantization: Literal["int8", "nf4"], output: Path) -> None:
    """Quantize a model folder's linear layers with bitsandbytes, and write them with tokenizer and manifest.

    The output head and the embeddings keep their dtype. So do routed experts in the files: they are quantized when the
    model is loaded, as far as `quantized_experts.py` can.

    Raises:
        ModelLoadingError: the model cannot be quantized on this device.
    """
    manifest = read_manifest(base)
    try:
        model = load_base(base, quantization, to_save=True)
    except ModelLoadingError as error:
        raise ModelLoadingError(
            f"{manifest.source} cannot be quantized to {quantization}: {error}; set model.quantization=none, or "
            "model.device to another device"
        ) from error
    _note_experts(model, quantization)
    model.save_pretrained(str(output))
    load_tokenizer(base).save_pretrained(output)
    write_manifest(output, manifest.model_copy(update={"quantization": quantization}))


def _note_experts(model: PreTrainedModel, quantization: str) -> None:
    """Say which routed experts are not quantized."""
    experts = expert_parameters(model)
    packed = quantizable_experts(model) if quantization == "nf4" else {}
    if kept := sum(weight.numel() for name, weight in experts.items() if name not in packed):
        reason = (
            "int8 is for linear layers alone" if quantization == "int8" else "their layer computes in a way of its own"
        )
        progress.note(f"{kept:,} weights of routed experts stay in {str(model.dtype).removeprefix('torch.')}: {reason}")
