"""The state of training: step, metrics, token counts and the best evaluation."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Self

from peft import PeftModel
from torch import Tensor

from loraline.artifacts.training import StepMetrics
from loraline.training.adapter import adapter_state, load_adapter_state


@dataclass
class TrainState:
    """The state of training. With weights, optimizer and random numbers, all that a checkpoint holds."""

    step: int = 0
    """Optimizer steps done."""
    history: list[StepMetrics] = field(default_factory=list)
    """The metrics of every step, and of the evaluation before the first."""
    tokens: int = 0
    """Tokens computed, without padding."""
    labels: int = 0
    """Tokens with loss."""
    padded_tokens: int = 0
    """Tokens computed, with padding."""
    seconds: float = 0.0
    """Time spent in training steps."""
    best_eval_loss: float = math.inf
    best_step: int = 0
    best_adapter: dict[str, Tensor] = field(default_factory=dict)
    """The adapter's weights at the best evaluation; empty without early stopping."""
    evaluations_without_improvement: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Training throughput so far, without padding."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def kept_step(self) -> int:
        """The step whose adapter is kept: the last, or with early stopping the best."""
        return self.best_step if self.best_adapter else self.step

    def record_evaluation(self, loss: float, model: PeftModel, keep_best: bool) -> None:
        """Compare an evaluation with the best so far.

        Args:
            loss: mean loss on the evaluation rows.
            model: the model with the adapter that was evaluated.
            keep_best: whether to keep a copy of the best adapter.
        """
        if loss < self.best_eval_loss:
            self.best_eval_loss, self.best_step, self.evaluations_without_improvement = loss, self.step, 0
            if keep_best:
                self.best_adapter = adapter_state(model)
        else:
            self.evaluations_without_improvement += 1

    def restore_best_adapter(self, model: PeftModel) -> None:
        """Set the model's adapter to the best one, if one was kept."""
        if self.best_adapter:
            load_adapter_state(model, self.best_adapter)

    def stops_early(self, patience: int) -> bool:
        """Whether the loss has not improved for `patience` evaluations (0: never)."""
        return 0 < patience <= self.evaluations_without_improvement

    def state_dict(self) -> dict[str, Any]:
        """Return the state as `torch.load` can read it with `weights_only`."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {**values, "history": [metrics.model_dump() for metrics in self.history]}

    @classmethod
    def from_state_dict(cls, values: dict[str, Any]) -> Self:
        """Restore the state from `state_dict`."""
        return cls(**{**values, "history": [StepMetrics(**metrics) for metrics in values["history"]]})
