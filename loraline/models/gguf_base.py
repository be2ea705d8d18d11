"""Whether a GGUF file can be a base, by its header alone. Needs no torch.

transformers reads the file. What it does not know, or leaves out without a word, is refused here: architectures,
tokenizers, and the scaling of positions.
"""

from pathlib import Path

from loraline.errors import ModelLoadingError
from loraline.models.gguf_header import GgufHeader, read_gguf_header
from loraline.models.gguf_positions import position_problem

_NAMES = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gpt-oss": "gpt_oss", "minimax-m2": "minimax_m2"}
"""Architectures that transformers calls otherwise than llama.cpp."""
_NOT_CAUSAL = {"general", "t5", "tokenizer", "umt5"}


def check_gguf(path: Path, own_tokenizer: bool = True) -> GgufHeader:
    """Check by its header that a GGUF file can be a base. Needs no torch, and takes a second.

    Args:
        path: the file.
        own_tokenizer: its own tokenizer is used, and not one that lies beside it.

    Raises:
        ModelLoadingError: it cannot be: what it is, and what can.
    """
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
    from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS

    header = read_gguf_header(path)
    known = {*GGUF_CONFIG_MAPPING, *GGUF_CONFIG_ARCHS} - _NOT_CAUSAL
    if _NAMES.get(header.architecture, header.architecture) not in known:
        raise ModelLoadingError(
            f"{path} has the architecture {header.architecture!r}, whose GGUF files transformers cannot dequantize; it "
            f"can {', '.join(sorted(known))}. Take the model that the file was made from, as safetensors"
        )
    if int(header.metadata.get("split.count", 1)) > 1:
        raise ModelLoadingError(
            f"{path} is one part of several; join them with `llama-gguf-split --merge` and give that"
        )
    if not header.tensors:
        raise ModelLoadingError(f"{path} holds a tokenizer and no weights")
    if found := position_problem(header):
        raise ModelLoadingError(
            f"{path} scales its positions ({found}), which transformers does not read from a GGUF file: it would be "
            "another model. Take the model that the file was made from, as safetensors"
        )
    if own_tokenizer:
        from loraline.models.gguf_tokenizer import check_gguf_tokenizer

        check_gguf_tokenizer(header, str(path))
    return header
