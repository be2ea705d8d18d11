"""The optimizer: AdamW on the adapter's weights, and the gradient scaler that float16 needs."""

import math

import torch
from peft import PeftModel
from torch import Tensor, nn

from loraline.training.adapter import trainable_parameters
from loraline.training.config import TrainConfig


def create_optimizer(model: PeftModel, config: TrainConfig) -> torch.optim.AdamW:
    """Create AdamW with one parameter group, the adapter's weights, all with weight decay."""
    group = {"params": list(trainable_parameters(model).values()), "weight_decay": config.weight_decay}
    return torch.optim.AdamW([group], lr=config.learning_rate, fused=True)


def create_grad_scaler(device: torch.device, dtype: torch.dtype) -> torch.amp.GradScaler:
    """Create the gradient scaler. It is enabled for float16 on CUDA, whose small gradients would underflow."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16 and device.type == "cuda")


def optimized_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the weights of all parameter groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def clip_gradients(parameters: list[nn.Parameter], max_grad_norm: float) -> Tensor:
    """Scale gradients in place to a maximum norm (0: no limit), and return their norm before that."""
    return torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm or math.inf)
