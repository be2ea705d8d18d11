"""The items that a training run's memory consists of, computed from a model on the meta device."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from loraline.models import activations
from loraline.models.bitsandbytes_layers import BYTES_PER_WEIGHT
from loraline.models.config import ModelConfig
from loraline.models.expert_memory import expert_lora_bytes
from loraline.models.experts import expert_parameters
from loraline.models.footprint import FootprintConfig
from loraline.models.quantized_experts import quantizable_experts
from loraline.models.target_modules import target_experts, target_layers
from loraline.models.text_decoder import linear_layers
from loraline.training.logit_transform import IDENTITY, candidates
from loraline.training.memory_facts import ADAMW_STATES, ADAPTER_ITEMSIZE, LOGITS_CHUNK, can_fuse_lora

_FLOAT32 = 4  # bytes
NOT_TRACEABLE = (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class MemoryItem:
    """One kind of memory."""

    name: str
    size: int
    """Bytes."""
    basis: str
    """How the size is computed."""


@dataclass(frozen=True)
class Phase:
    """A phase of a run, and the memory that it needs on the device."""

    name: str
    items: list[MemoryItem]
    capacity: int
    """Bytes of the device that are available."""

    @property
    def needed(self) -> int:
        """Bytes in all."""
        return sum(item.size for item in self.items)

    @property
    def fits(self) -> bool:
        """Whether the device has as much as the phase needs."""
        return self.needed <= self.capacity


def memory_items(model: PreTrainedModel, config: ModelConfig, footprint: FootprintConfig) -> list[MemoryItem]:
    """Compute the memory of each kind that training needs.

    Args:
        model: on the meta device, in the dtype that it runs in.
        config: the recipe's model section.
        footprint: the training settings that memory depends on.
    """
    adapted = list(target_layers(model, footprint.target_modules).values())
    trainable = count_adapter_parameters(model, footprint)
    activation_item = _activations(model, adapted, config, footprint)
    return [
        weights_item(model, config),
        MemoryItem("adapter", trainable * ADAPTER_ITEMSIZE, _adapter_basis(model, footprint)),
        MemoryItem("gradients", trainable * ADAPTER_ITEMSIZE, "of the adapter, float32"),
        MemoryItem("optimizer", trainable * ADAPTER_ITEMSIZE * ADAMW_STATES, "AdamW's two states, float32"),
        activation_item,
        _logits(model, adapted, footprint, activation_item.size),
        _workspace(model, adapted, config, footprint),
    ]


def _adapter_basis(model: PreTrainedModel, footprint: FootprintConfig) -> str:
    """Number, type and rank of the adapter's weights, and how many of them are the routed experts'."""
    basis = f"{count_adapter_parameters(model, footprint):,} weights in float32, rank {footprint.rank}"
    experts = _count_expert_parameters(model, footprint)
    return f"{basis}; {experts:,} of them for routed experts, none for routers" if experts else basis


def count_adapter_parameters(model: PreTrainedModel, footprint: FootprintConfig) -> int:
    """Weights of the adapter: LoRA's A and B (arXiv 2106.09685), and DoRA's magnitudes (arXiv 2402.09353).

    Each of the routed experts has an A and a B of its own.
    """
    total = _count_expert_parameters(model, footprint)
    for layer in target_layers(model, footprint.target_modules).values():
        in_features, out_features = _features(layer)
        total += footprint.rank * (in_features + out_features) + (out_features if footprint.use_dora else 0)
    return total


def _count_expert_parameters(model: PreTrainedModel, footprint: FootprintConfig) -> int:
    shapes = [tuple(weight.shape) for weight in target_experts(model, footprint.target_modules).values()]
    return sum(experts * footprint.rank * (rows + columns) for experts, rows, columns in shapes)


def _features(layer: Any) -> tuple[int, int]:
    """Input and output features of a linear layer; GPT-2's Conv1D has a weight of that shape."""
    return (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else tuple(layer.weight.shape)


def _quantizable(model: PreTrainedModel) -> list[Any]:
    """The linear layers that bitsandbytes quantizes: all except the output head."""
    return [layer for layer in linear_layers(model).values() if layer is not model.get_output_embeddings()]


def weights_item(model: PreTrainedModel, config: ModelConfig) -> MemoryItem:
    """The weights of the base, quantized as the recipe asks."""
    unquantized = sum(weight.numel() * weight.element_size() for weight in (*model.parameters(), *model.buffers()))
    dtype = str(model.dtype).removeprefix("torch.")
    if config.quantization == "none":
        return MemoryItem("weights", unquantized, dtype)
    layers = _quantizable(model)
    experts = quantizable_experts(model) if config.quantization == "nf4" else {}
    quantized = sum(weight.numel() for weight in (*(layer.weight for layer in layers), *experts.values()))
    scales = sum(layer.weight.shape[0] * _FLOAT32 for layer in layers) if config.quantization == "int8" else 0
    size = int(unquantized + quantized * (BYTES_PER_WEIGHT[config.quantization] - model.dtype.itemsize)) + scales
    names = "linear layers and experts" if experts else "linear layers"
    rest = "the rest, experts among it" if not experts and expert_parameters(model) else "the rest"
    return MemoryItem("weights", size, f"{names} in {config.quantization}, {dtype} for {rest}")


def _activations(
    model: PreTrainedModel, adapted: list[Any], config: ModelConfig, footprint: FootprintConfig
) -> MemoryItem:
    """Activations that the forward pass saves for the backward pass.

    With gradient checkpointing these are each layer's input, and all of one layer at a time (arXiv 1604.06174). Where
    the model cannot be traced, 34 bytes for each token, hidden feature and layer (arXiv 2205.05198, section 4.1,
    without attention scores, which fused kernels do not save), and 12 more for a gated MLP.
    """
    batch, length = footprint.batch_size, footprint.max_length
    text = model.config.get_text_config()
    tokens, itemsize = batch * length, model.dtype.itemsize
    fused = [layer for layer in adapted if _is_fused(layer, config, footprint)]
    try:
        size = activations.saved_bytes(model, fused, batch, length, eager=config.attention == "eager")
        basis = "counted in a forward pass on the meta device"
    except NOT_TRACEABLE as error:
        size = (34 + 12) * tokens * text.hidden_size * text.num_hidden_layers * itemsize // 2
        basis = f"by the formula of arXiv 2205.05198, because the model cannot be traced ({type(error).__name__})"
    size += len(adapted) * tokens * footprint.rank * itemsize + expert_lora_bytes(model, footprint)
    size += sum(tokens * _saved_per_token(layer, footprint, itemsize) for layer in adapted if layer not in fused)
    if footprint.gradient_checkpointing:
        size = size // text.num_hidden_layers + tokens * text.hidden_size * itemsize * text.num_hidden_layers
        basis += "; of one layer at a time, and every layer's input"
    return MemoryItem("activations", size, basis)


def _is_fused(layer: Any, config: ModelConfig, footprint: FootprintConfig) -> bool:
    """Whether an adapted layer saves its input in the model's dtype, as fused LoRA does."""
    return config.quantization != "int8" and can_fuse_lora(layer, footprint.use_dora, footprint.dropout)


def _saved_per_token(layer: Any, footprint: FootprintConfig, itemsize: int) -> int:
    """Bytes for each token that PEFT's own forward pass saves.

    They are a float32 copy of the input, the dropout mask, and for DoRA the outputs of base layer and adapter.
    """
    in_features, out_features = _features(layer)
    mask = in_features if footprint.dropout else 0
    return in_features * _FLOAT32 + mask + (out_features * (itemsize + _FLOAT32) if footprint.use_dora else 0)


def _logits(
    model: PreTrainedModel, adapted: list[Any], footprint: FootprintConfig, activation_bytes: int
) -> MemoryItem:
    """What exists between the output head and the loss.

    For each logit of a chunk: in the model's dtype, and its probability; and two tensors like the hidden states. The
    evaluation during training has each logit in float32 and its log-probability instead of the probability, while no
    activations are saved. Without chunks all logits exist at one time, with a copy and their gradients.
    """
    text = model.config.get_text_config()
    tokens, itemsize = footprint.batch_size * footprint.max_length, model.dtype.itemsize
    if not _is_loss_chunked(model, adapted):
        size = tokens * text.vocab_size * (2 * itemsize + 3 * _FLOAT32)
        return MemoryItem("logits", size, "of all positions, with their gradients")
    probability = 2 * _FLOAT32 if model.dtype == torch.float16 else itemsize  # of a copy in float32
    evaluated = _FLOAT32 + (_FLOAT32 if itemsize < _FLOAT32 else 0)
    chunk, states = min(LOGITS_CHUNK, tokens) * text.vocab_size, 2 * tokens * text.hidden_size * itemsize
    size = max(chunk * (itemsize + probability), chunk * (itemsize + evaluated) - activation_bytes) + states
    return MemoryItem(
        "logits", size, f"{LOGITS_CHUNK} label positions at a time, and the gradient of the hidden states"
    )


def _is_loss_chunked(model: PreTrainedModel, adapted: list[Any]) -> bool:
    """Whether the loss computes logits in chunks, as training/loss.py decides with a batch."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or any(layer is head for layer in adapted):
        return False
    if candidates(model.config) != [IDENTITY]:
        return True  # scaled or capped, which the loss does as well
    try:
        return activations.returns_head_output(model)
    except NOT_TRACEABLE:
        return True  # most models return the output of their head


def _workspace(
    model: PreTrainedModel, adapted: list[Any], config: ModelConfig, footprint: FootprintConfig
) -> MemoryItem:
    """Gradients of the widest layer's input and output, the largest layer while it is dequantized, and DoRA's norm."""
    layers = _quantizable(model)
    widest = max((sum(layer.weight.shape) for layer in layers), default=0)
    weights = [layer.weight for layer in layers] + list(quantizable_experts(model).values())
    largest = max((weight.numel() for weight in weights), default=0)
    values = footprint.batch_size * footprint.max_length * widest + (0 if config.quantization == "none" else largest)
    size = values * model.dtype.itemsize + (max(map(_dora_norm, adapted), default=0) if footprint.use_dora else 0)
    return MemoryItem("workspace", size, "gradients of the widest layer, a dequantized layer")


def _dora_norm(layer: Any) -> int:
    """Bytes that DoRA's norm of a merged weight takes: an identity matrix, and four matrices like the weight."""
    in_features, out_features = _features(layer)
    return in_features * (in_features + 4 * out_features) * _FLOAT32
