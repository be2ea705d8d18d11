"""What may be set about the verdict."""

from pydantic import Field

from loraline.artifacts.evaluation import MetricName
from loraline.config import StepConfig


class GateConfig(StepConfig):
    """What the tuned model must achieve over its base, and hold against its champion, to be promoted."""

    metric: MetricName = "loss"
    """The figure that decides."""
    min_gain: float = Field(default=0.0, ge=0.0)
    """The gain over the base must be above this with its whole interval (nats for loss, else fraction 0 to 1)."""
    min_examples: int = Field(default=30, ge=20)
    """Fewer scored examples than this is a reject; the same for rows of the general set, and of a task."""
    confidence: float = Field(default=0.95, ge=0.5, lt=1.0)
    """Of the intervals, two-sided: at 0.95 a model without any gain passes at most once in 40 times. docs/statistics.md
    has the rates for losses of every shape."""
    champion_margin: float = Field(default=0.05, ge=0.0)
    """By how much the model may be worse than the best champion so far, with its whole interval (as min_gain). What a
    champion lost to the one before it is taken off."""
    max_forgetting: float = Field(default=0.1, ge=0.0)
    """By how much the loss on the general set may rise, with its whole interval (nats per token)."""
    max_task_drop: float = Field(default=0.05, ge=0.0)
    """By how much the main metric of a task may get worse, with its whole interval."""
    max_degenerate: float = Field(default=0.2, ge=0.0, le=1.0)
    """Part of the answers (0 to 1) that may be empty, or be cut though their reference is shorter. Answers that are all
    alike where references are not fail as well. 1: answers of any kind are accepted."""
    max_contamination: float = Field(default=0.01, ge=0.0, le=1.0)
    """Part of the held-out rows (0 to 1) that may stand among the training rows."""
