"""Learning rate schedules with linear warm-up."""

import math

from loraline.training.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Return the learning rate of optimizer step `step` (0 to `total` - 1)."""
    warmup = round(config.warmup_ratio * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    match config.lr_scheduler_type:
        case "constant_with_warmup":
            return config.learning_rate
        case "linear":
            return config.learning_rate * (1 - done)
        case "cosine":
            return config.learning_rate * (1 + math.cos(math.pi * done)) / 2
