"""Settings of training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from loraline.config import StepConfig
from loraline.models.footprint import FootprintConfig


class TrainConfig(StepConfig):
    """Settings of the adapter, the optimizer and the learning rate schedule."""

    rank: int = Field(default=16, ge=1)
    """Rank of the LoRA matrices."""
    alpha: float = Field(default=32.0, gt=0)
    """LoRA scaling: the update is multiplied by alpha / rank, or by alpha / sqrt(rank) with rsLoRA."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout probability on the adapter's input (0 to 1)."""
    target_modules: list[str] = Field(default=["all-linear"], min_length=1)
    """Names of linear layers that get an adapter; in a mixture of experts also `experts`. ["all-linear"]: all of the
    text decoder, without output head and routers."""
    use_dora: bool = False
    """Weight-decomposed LoRA (DoRA, arXiv 2402.09353)."""
    use_rslora: bool = False
    """Rank-stabilized LoRA scaling (rsLoRA, arXiv 2312.03732)."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate."""
    lr_scheduler_type: Literal["constant_with_warmup", "linear", "cosine"] = "cosine"
    """Learning rate schedule after warm-up: level, or a linear or cosine decay to zero. Names as in transformers."""
    warmup_ratio: float = Field(default=0.03, ge=0.0, lt=1.0)
    """Fraction (0 to 1) of the optimizer steps in which the learning rate rises linearly from zero."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """AdamW's weight decay on the adapter."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the training set (epochs)."""
    max_steps: int = Field(default=0, ge=0)
    """Maximum number of optimizer steps. 0: as many as `epochs` needs."""
    max_length: int = Field(default=2048, ge=16)
    """Length of a packed row and maximum length of an example, in tokens. Longer examples are truncated and counted."""
    batch_size: int = Field(default=4, ge=1)
    """Packed rows in each forward pass."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Forward and backward passes in each optimizer step."""
    max_grad_norm: float = Field(default=1.0, ge=0.0)
    """Maximum gradient norm, for gradient clipping. 0: no clipping."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third slower, much less memory."""
    eval_steps: int = Field(default=0, ge=0)
    """Optimizer steps between two evaluations of the loss. 0: evaluate at the end of each epoch."""
    early_stopping_patience: int = Field(default=0, ge=0)
    """Stop after this many evaluations without a lower loss, and keep the best adapter. 0: no early stopping."""
    save_steps: int = Field(default=0, ge=0)
    """Optimizer steps between two checkpoints. 0: save at the end of each epoch."""
    save_minutes: float = Field(default=10.0, ge=0)
    """Minutes between two checkpoints, beside those by steps. 0: by steps alone."""
    seed: int = Field(default=42, ge=0)
    """Random seed of the adapter's initial weights, the order of the examples and dropout."""
    nodes: int = Field(default=1, ge=1)
    """Nodes for data parallel training, each with the GPUs of a GPU step. Without a cluster: local processes."""

    @property
    def rows_per_step(self) -> int:
        """Packed rows of an optimizer step."""
        return self.batch_size * self.gradient_accumulation_steps

    def processes_per_node(self, gpus: int) -> int:
        """Processes on each node: one for each of its GPUs, as long as a step has packed rows for it; at least one."""
        return max(1, min(gpus, self.rows_per_step // self.nodes))

    @model_validator(mode="after")
    def _check_rows_for_each_node(self) -> Self:
        rows = self.rows_per_step
        if self.nodes > rows:
            raise ValueError(
                f"nodes={self.nodes} is more than the {rows} packed rows of an optimizer step (batch_size x "
                "gradient_accumulation_steps); raise one of these, or use fewer nodes"
            )
        return self

    def footprint(self) -> FootprintConfig:
        """The part of the settings that decides how much memory is needed."""
        values = self.model_dump()
        return FootprintConfig(**{name: values[name] for name in FootprintConfig.model_fields})
