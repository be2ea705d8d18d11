"""What may be set about training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from loraline.config import StepConfig


class TrainConfig(StepConfig):
    """The adapter, the optimizer and the schedule."""

    rank: int = Field(default=16, ge=1)
    """Rank of the LoRA matrices."""
    alpha: float = Field(default=32.0, gt=0)
    """LoRA scale: the update is multiplied by alpha / rank, or by alpha / sqrt(rank) with rsLoRA."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the adapter's input (fraction 0 to 1)."""
    target_modules: list[str] = Field(default=["all-linear"], min_length=1)
    """Names of the layers that get an adapter. ["all-linear"]: every linear layer but the output head."""
    use_dora: bool = False
    """Weight-decomposed LoRA (DoRA, arXiv 2402.09353)."""
    use_rslora: bool = False
    """Rank-stabilized scale (rsLoRA, arXiv 2312.03732)."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """How the learning rate goes from its peak to zero after warm-up."""
    warmup_fraction: float = Field(default=0.03, ge=0.0, lt=1.0)
    """Part of the steps (fraction 0 to 1) in which the learning rate rises from zero."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """AdamW's weight decay on the adapter."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the training set."""
    max_steps: int = Field(default=0, ge=0)
    """Optimizer steps after which training ends. 0: as many as the epochs need."""
    max_length: int = Field(default=2048, ge=16)
    """Tokens in a packed row, and the longest example. A longer example is cut, and the report counts it."""
    batch_size: int = Field(default=4, ge=1)
    """Packed rows in one forward pass."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Forward passes in one optimizer step."""
    gradient_clipping: float = Field(default=1.0, ge=0.0)
    """Largest norm of the gradient. 0: no clipping."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third slower, far less memory."""
    eval_every: int = Field(default=0, ge=0)
    """Optimizer steps between two evaluations of the loss. 0: at each epoch's end."""
    early_stopping_patience: int = Field(default=0, ge=0)
    """Evaluations without a lower loss after which training ends, with the best adapter. 0: never."""
    checkpoint_every: int = Field(default=0, ge=0)
    """Optimizer steps between two checkpoints. 0: at each epoch's end."""
    seed: int = Field(default=42, ge=0)
    """Seed of the adapter's initial weights, the order of the examples and the dropout."""
    nodes: int = Field(default=1, ge=1)
    """Machines that train together, each with the GPUs of a GPU step. Without a cluster: processes on this one."""

    @model_validator(mode="after")
    def _work_for_each_node(self) -> Self:
        rows = self.batch_size * self.gradient_accumulation
        if self.nodes > rows:
            raise ValueError(
                f"nodes={self.nodes} cannot share out the {rows} packed rows of a step (batch_size x "
                "gradient_accumulation); raise one of these, or take fewer nodes"
            )
        return self
