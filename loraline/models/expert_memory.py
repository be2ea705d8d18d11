"""What LoRA on routed experts saves for the backward pass: the memory of `expert_lora.py`."""

import torch
from transformers import PreTrainedModel

from loraline.models.footprint import FootprintConfig
from loraline.models.quantized_experts import is_grouped
from loraline.models.target_modules import target_experts


def expert_lora_bytes(model: PreTrainedModel, footprint: FootprintConfig) -> int:
    """Bytes that the LoRA layers of all routed experts save.

    They are each product's input and its product with A, for each expert of each token, a copy of B, and of A where
    the model runs in 16 bit. PEFT's own layer, which stays where experts compute in a way of their own, saves the
    merged weights instead.

    Args:
        model: on the meta device, in the dtype that it runs in.
        footprint: the training settings that memory depends on.
    """
    chosen = getattr(model.config.get_text_config(), "num_experts_per_tok", 1)
    rows = footprint.batch_size * footprint.max_length * chosen
    total = 0
    for name, weight in target_experts(model, footprint.target_modules).items():
        experts = model.get_submodule(name.rpartition(".")[0])
        count, *shape = weight.shape
        outputs, inputs = shape[::-1] if getattr(experts, "is_transposed", False) else shape
        total += count * footprint.rank * (outputs if model.dtype == torch.float32 else outputs + inputs)
        total += rows * (inputs + footprint.rank) if is_grouped(experts) else weight.numel()
    return total * model.dtype.itemsize
