"""What decides training's memory, read both by the code that allocates it and by the memory estimate."""

from torch import nn

from loraline.models.bitsandbytes_layers import is_4bit

LOGITS_CHUNK = 256
"""Label positions whose logits exist at one time; the fastest of 32 to 512 with a vocabulary of 32k on a CPU."""

ADAMW_STATES = 2
"""Tensors of AdamW for each weight: running averages of the gradient and of its square (arXiv 1711.05101)."""

ADAPTER_ITEMSIZE = 4
"""Bytes of an adapter weight, and of its gradient and optimizer states: PEFT creates adapters in float32."""


def can_fuse_lora(layer: nn.Module, use_dora: bool, dropout: float) -> bool:
    """Whether fused LoRA replaces PEFT's forward pass on a layer; PEFT's keeps a float32 copy of the layer's input."""
    return (type(layer) is nn.Linear or is_4bit(layer)) and not use_dora and dropout == 0
