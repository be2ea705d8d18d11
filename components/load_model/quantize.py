"""Write a base model down in 8 or 4 bits, so that later steps load it as it is."""

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from components.shared import model_folder, models
from components.shared.errors import ModelLoadingError


def quantize(base: Path, quantization: Literal["int8", "nf4"], output: Path) -> None:
    """Quantize a model folder's linear layers with bitsandbytes; tokenizer and the rest come along.

    nf4 is QLoRA's 4-bit type, with its block constants quantized once more (arXiv 2305.14314); int8 is
    LLM.int8() (arXiv 2208.07339). The output head and the embeddings keep their type.

    Raises:
        ModelLoadingError: the model cannot be quantized on this device.
    """
    models.quiet_libraries()
    placement = models.place(base)
    manifest = model_folder.read_manifest(base)
    model: Any
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=placement.dtype,
            device_map={"": placement.device},
            quantization_config=_bitsandbytes(quantization, placement.dtype),
            trust_remote_code=manifest.trust_remote_code,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError, ImportError, NotImplementedError) as error:
        raise ModelLoadingError(
            f"{manifest.source} cannot be quantized to {quantization} on {placement.device}: {error}; "
            "set model.quantization=none, or model.device to another device"
        ) from error
    model.save_pretrained(output)
    model_folder.load_tokenizer(base).save_pretrained(output)
    model_folder.write_manifest(output, manifest.model_copy(update={"quantization": quantization}))


def _bitsandbytes(quantization: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
