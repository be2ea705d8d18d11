"""What may be set about the base model."""

from typing import Literal

from pydantic import Field

from loraline.config import StepConfig


class ModelConfig(StepConfig):
    """Which base model, and how it is held in memory."""

    source: str
    """The base: a local folder, `s3://bucket/prefix`, a Hub id, `models:/name@alias`, or `scratch:dates`."""
    revision: str = ""
    """Commit, tag or branch of a Hub model. It is pinned to a commit before anything is read."""
    quantization: Literal["none", "int8", "nf4"] = "none"
    """How the frozen base is held while training: 16-bit, 8-bit, or 4-bit NF4 with double quantization."""
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of weights and arithmetic. auto: bfloat16 where the device is fast with it, else float32."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where the model runs. auto: CUDA, else MPS, else CPU."""
    attention: Literal["auto", "flash_attention_2", "sdpa", "eager"] = "auto"
    """Attention implementation. auto: the fastest that is installed and that the device can run, and in training
    sequences are packed, which has an attention of its own. With any other value they are padded instead."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. It can do anything that you can."""


class FootprintConfig(StepConfig):
    """The part of the training settings that decides how much memory is needed."""

    rank: int = Field(ge=1)
    target_modules: list[str]
    dropout: float
    use_dora: bool
    max_length: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    gradient_checkpointing: bool
