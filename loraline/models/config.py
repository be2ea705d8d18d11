"""Settings of the base model."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from loraline.config import StepConfig


class ModelConfig(StepConfig):
    """Which base model, and its quantization, dtype, device and attention implementation."""

    source: str
    """The base: a local folder, `s3://bucket/prefix`, a Hub id, `models:/name@alias`, or `scratch:dates`; or a GGUF
    file, dequantized once: a local one, one under s3://, or `owner/repository/file.gguf` on the Hub."""
    revision: str = ""
    """Commit, tag or branch of a Hub model, or version in the model registry. Each run pins it."""
    quantization: Literal["none", "int8", "nf4"] = "none"
    """Quantization of the frozen base in training: none, 8 bit, or 4-bit NF4 with double quantization."""
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Dtype of weights and computation. auto: the device's native 16-bit dtype, bfloat16 if it has it, else float32."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where the model runs. auto: CUDA, else MPS, else CPU."""
    attention: Literal["auto", "flash_attention_2", "sdpa", "eager"] = "auto"
    """Attention implementation. auto: the fastest that is installed and that the device supports, and training packs
    sequences, with an attention implementation of its own. With any other value, training pads them instead."""
    chat_template: str = ""
    """A chat template instead of the tokenizer's: a file (`my.jinja`), or the template's text. It is part of the base,
    and of the merged model."""
    chat_template_kwargs: dict[str, Any] = Field(default={})
    """Values of the chat template's variables, such as `{enable_thinking: false}`: for training, for evaluation and, as
    the template's defaults, for servers of the merged model."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. It has all of your permissions."""

    @field_validator("chat_template")
    @classmethod
    def _read_template(cls, value: str) -> str:
        """Read a template's file, so that the settings hold its text."""
        if not value or "{" in value:
            return value
        file = Path(value).expanduser()
        if not file.is_file():
            raise ValueError(f"{value!r} is neither a file nor a template, which has tags such as {{{{ messages }}}}")
        return file.read_text(encoding="utf-8")
