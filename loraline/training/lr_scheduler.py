"""The learning rate's way: up from zero, then down to zero, or level."""

import math

from loraline.training.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Learning rate of optimizer step `step` (0 to `total` - 1)."""
    warmup = round(config.warmup_fraction * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    match config.schedule:
        case "constant":
            return config.learning_rate
        case "linear":
            return config.learning_rate * (1 - done)
        case "cosine":
            return config.learning_rate * (1 + math.cos(math.pi * done)) / 2
