"""Write a quantized copy of a base model, so that later steps load it without quantizing it again."""

from pathlib import Path
from typing import Literal

from loraline.errors import ModelLoadingError
from loraline.models.folder import load_tokenizer, read_manifest, write_manifest
from loraline.models.load_base import load_base


def quantize(base: Path, quantization: Literal["int8", "nf4"], output: Path) -> None:
    """Quantize a model folder's linear layers with bitsandbytes, and write them with tokenizer and manifest.

    The output head and the embeddings keep their dtype.

    Raises:
        ModelLoadingError: the model cannot be quantized on this device.
    """
    manifest = read_manifest(base)
    try:
        model = load_base(base, quantization)
    except ModelLoadingError as error:
        raise ModelLoadingError(
            f"{manifest.source} cannot be quantized to {quantization}: {error}; set model.quantization=none, or "
            "model.device to another device"
        ) from error
    model.save_pretrained(str(output))
    load_tokenizer(base).save_pretrained(output)
    write_manifest(output, manifest.model_copy(update={"quantization": quantization}))
