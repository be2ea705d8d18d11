"""The weights and configuration of a GGUF file, dequantized once into an ordinary 16-bit model folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig
from transformers import modeling_gguf_pytorch_utils as reader

from loraline.errors import ModelLoadingError
from loraline.models.gguf_header import GgufHeader
from loraline.models.gguf_positions import scaled_positions
from loraline.models.load_base import quiet_libraries, refuse_missing_weights

_DTYPES = {30: torch.bfloat16, 1: torch.float16, 0: torch.float32}
"""GGML's numbers of the types that are not quantized."""


def write_gguf_config(path: Path, header: GgufHeader, folder: Path) -> None:
    """Write the configuration of a GGUF file's model into a folder.

    Raises:
        ModelLoadingError: transformers cannot read it.
    """
    _read_config(path, header).save_pretrained(folder)


def write_gguf_weights(path: Path, header: GgufHeader, folder: Path) -> None:
    """Dequantize a GGUF file, and write its configuration and safetensors into a folder.

    Weights that were not quantized keep their dtype; the others become bfloat16.

    Raises:
        ModelLoadingError: it cannot be read, or lacks weights.
    """
    quiet_libraries()
    types = set(header.tensors.values())
    dtypes = [dtype for kind, dtype in _DTYPES.items() if kind in types]
    loaded: Any
    try:
        with _without_progress_bar():
            loaded = AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                config=_read_config(path, header),
                dtype=dtypes[0] if types <= set(_DTYPES) else torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, NotImplementedError) as error:
        raise ModelLoadingError(f"the GGUF file {path} cannot be dequantized: {error}") from error
    model, loading_info = loaded
    refuse_missing_weights(path, loading_info)
    model.save_pretrained(str(folder))


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """transformers' bar over the tensors of a GGUF file heeds no setting."""
    bar = reader.tqdm
    reader.tqdm = lambda tensors, **_: tensors
    try:
        yield
    finally:
        reader.tqdm = bar


def _read_config(path: Path, header: GgufHeader) -> Any:
    try:
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise ModelLoadingError(
            f"transformers cannot read the configuration of the GGUF file {path}: {error}"
        ) from error
    positions = getattr(config, "rope_parameters", None) or {}
    if "rope_theta" in positions:
        config.rope_parameters = positions | scaled_positions(path, header, positions["rope_theta"])
    elif f"{header.architecture}.rope.scaling.type" in header.metadata and header.architecture != "gpt-oss":
        raise ModelLoadingError(f"{path} scales the positions of a model whose layers have several kinds of them")
    return config
