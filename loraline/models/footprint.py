"""The training settings that the memory estimate reads. Fetching and quantizing a base depends on none of them."""

from pydantic import Field

from loraline.config import StepConfig


class FootprintConfig(StepConfig):
    """The training settings that memory depends on."""

    rank: int = Field(ge=1)
    target_modules: list[str]
    dropout: float
    use_dora: bool
    max_length: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    gradient_checkpointing: bool
