"""What train_lora hands on: how training went, and which tokens it learned from."""

from typing import Any, ClassVar

from pydantic import Field

from loraline.artifacts.base import Measured, Report, StepIdentity


class PackingReport(Report):
    """How far the losses of rows that were packed together are from those of the same rows alone."""

    rows: int
    max_difference: Measured
    """Of the rows, the largest mean difference (absolute, over all tokens of the row) of the loss, in nats."""
    tolerance: float
    """What it may be, for the type that the model computes in."""


class StepMetrics(Report):
    """The figures of one optimizer step. Step 0 is the evaluation before training, and has nothing else."""

    step: int
    loss: Measured = None
    """Training loss, in nats a token."""
    learning_rate: Measured = None
    grad_norm: Measured = None
    """Norm of the gradient before clipping."""
    tokens_per_second: Measured = None
    eval_loss: Measured = None
    """Loss on the evaluation rows, in nats a token; None where it was not evaluated at this step."""


class TrainedBase(Report):
    """The base that an adapter was trained on: the part of training.json that a merge depends on."""

    FILE: ClassVar[str] = "training.json"

    base_digest: str = ""
    """Digest of the base that the adapter belongs to; of the 16-bit one, also where training ran on it quantized."""
    quantization: str = "none"
    """How the base was held while training: none, int8 or nf4."""


class TrainReport(TrainedBase):
    """How training went."""

    identity: StepIdentity

    base_digest: str
    quantization: str
    steps: int
    """Optimizer steps that were done."""
    planned_steps: int
    """Optimizer steps that the settings ask for. More than `steps` where training stopped early."""
    epochs: float
    """Passes over the training set."""
    final_loss: float
    """Training loss of the last step, in nats a token."""
    best_eval_loss: Measured
    """Lowest loss on the evaluation rows, in nats a token."""
    kept_step: int
    """The step whose adapter was kept: the last, or with early stopping the best."""
    history: list[StepMetrics]
    examples: int
    truncated: int
    """Examples cut at `max_length`."""
    dropped: int
    """Examples left out, because none of their tokens carries loss."""
    silent_rows: int = 0
    """Examples with an answer that carries no loss, because the chat template writes it otherwise in a longer
    conversation, or because nothing is asked before it."""
    joined_rows: int = 0
    """Examples whose last answer was tokenized apart from its prompt, because the tokenizer would merge across."""
    chat_template_digest: str = ""
    """SHA-256 of the chat template that conversations were rendered with."""
    chat_template_kwargs: dict[str, Any] = Field(default={})
    """`model.chat_template_kwargs`, which that template has as its defaults."""
    tokens: int
    """Tokens seen, padding not counted."""
    labelled_tokens: int
    """Tokens seen that carry loss."""
    padding_fraction: float
    """Part of what was computed that was padding."""
    masked_fraction: float
    """Part of the training set's tokens that carries no loss."""
    tokens_per_second: float
    """Tokens, padding not counted, in a second of training; evaluations and checkpoints not counted."""
    seconds: float
    """Time spent in training steps, over all starts of this run."""
    trainable_parameters: int
    adapted: str
    """The layers and experts that have an adapter, by name, and how many there are of each name."""
    total_parameters: int
    processes: int
    """Processes that trained together, on one machine or several."""
    device: str
    dtype: str
    attention: str
    """The attention implementation, and whether sequences were packed or padded, and why."""
    packing: PackingReport | None
    """The rows' losses packed together against those alone; null where rows are padded."""
    loss_head: str
    """How logits are made."""
    peak_memory_bytes: int
    """On CUDA that of the device, else of the process."""
    resumed_from: int | None
    """Step of the checkpoint that this run went on from."""


class MaskToken(Report):
    """One token of a sample."""

    text: str
    loss: bool
    """Whether it carries loss."""
    special: bool
    token_id: int
    """Its id in the vocabulary."""


class MaskSample(Report):
    """A training row, token by token."""

    id: str
    origin: str
    length: int
    """Tokens of the row; `tokens` may hold fewer."""
    tokens: list[MaskToken]


class MaskReport(Report):
    """Which tokens training learned from."""

    FILE: ClassVar[str] = "mask.json"

    masked_fraction: float
    """Part of the training set's tokens that carries no loss (0 to 1)."""
    samples: list[MaskSample]
    prompts: dict[str, str]
    """By id of an evaluation row, the digest of the prompt before its last answer, as training tokenizes it."""
