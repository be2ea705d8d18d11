"""Write a base model down in 8 or 4 bits, so that later steps load it as it is."""

from pathlib import Path
from typing import Any, Literal

from transformers import AutoModelForCausalLM

from loraline.errors import ModelLoadingError
from loraline.models.device import place
from loraline.models.folder import load_tokenizer, read_manifest, write_manifest
from loraline.models.load import quantization_config, quiet_libraries


def quantize(base: Path, quantization: Literal["int8", "nf4"], output: Path) -> None:
    """Quantize a model folder's linear layers with bitsandbytes; tokenizer and the rest come along.

    The output head and the embeddings keep their type.

    Raises:
        ModelLoadingError: the model cannot be quantized on this device.
    """
    quiet_libraries()
    placement = place(base)
    manifest = read_manifest(base)
    model: Any
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=placement.dtype,
            device_map={"": placement.device},
            quantization_config=quantization_config(quantization, placement.dtype),
            trust_remote_code=manifest.trust_remote_code,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError, ImportError, NotImplementedError) as error:
        raise ModelLoadingError(
            f"{manifest.source} cannot be quantized to {quantization} on {placement.device}: {error}; "
            "set model.quantization=none, or model.device to another device"
        ) from error
    model.save_pretrained(output)
    load_tokenizer(base).save_pretrained(output)
    write_manifest(output, manifest.model_copy(update={"quantization": quantization}))
