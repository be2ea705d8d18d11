"""Whether a fine-tuning fits into memory, said before any weight is loaded."""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from loraline.artifacts.base_model import ModelManifest
from loraline.errors import ModelLoadingError
from loraline.models import accelerators, activations
from loraline.models.bitsandbytes_layers import BYTES_PER_WEIGHT
from loraline.models.config import FootprintConfig, ModelConfig
from loraline.models.device import DTYPES, pick_device, pick_dtype
from loraline.models.folder import load_config, write_manifest
from loraline.models.target_modules import linear_layers, target_layers
from loraline.sources.model import fetch_config
from loraline.training.memory_facts import ADAMW_STATES, ADAPTER_ITEMSIZE, LOGITS_CHUNK, can_fuse_lora
from loraline.units import format_bytes

_FP32 = 4
_SMALLER_RANK = 8
_SHORTEST_TO_HALVE = 256  # tokens


@dataclass(frozen=True)
class PlanRow:
    """One kind of memory."""

    what: str
    size: int
    """Bytes."""
    how: str
    """Where the figure comes from."""


@dataclass(frozen=True)
class Change:
    """A change of the recipe, and the bytes that would then be needed."""

    setting: str
    needed: int
    fits: bool


@dataclass(frozen=True)
class FitPlan:
    """What training needs of memory, what there is, and what to change when that is too little."""

    accelerator: str
    """The device in words."""
    capacity: int
    """Bytes that the device has for this."""
    parameters: int
    trained: int
    """Weights of the adapter."""
    rows: list[PlanRow]
    changes: list[Change]
    """What could be changed: each by itself if that is enough, else several at once. Empty when it fits as it is."""

    @property
    def needed(self) -> int:
        """Bytes in all."""
        return sum(row.size for row in self.rows)

    @property
    def fits(self) -> bool:
        """Whether it fits."""
        return self.needed <= self.capacity

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON can hold it."""
        return {**asdict(self), "needed": self.needed, "fits": self.fits}

    def refusal(self) -> str:
        """What to tell somebody whose model does not fit."""
        shares = ", ".join(f"{row.what} {format_bytes(row.size)}" for row in self.rows)
        ways = "; ".join(
            f"{change.setting} would need {format_bytes(change.needed)}{'' if change.fits else ', still too much'}"
            for change in self.changes
        )
        return (
            f"training needs {format_bytes(self.needed)}, and {self.accelerator} has {format_bytes(self.capacity)} "
            f"({shares}). What to change: {ways or 'nothing of the recipe helps; take a larger device'}"
        )


def plan(config: ModelConfig, footprint: FootprintConfig, accelerator: str | None = None) -> FitPlan:
    """Add up what training needs, from the model's configuration alone.

    Args:
        config: the recipe's model section.
        footprint: what of the training settings decides how much memory is needed.
        accelerator: a key of `accelerators.ACCELERATORS`; None: the device that this machine would take.

    Raises:
        ConfigurationError: the accelerator is not known.
        ModelLoadingError: the configuration cannot be had, or transformers cannot make a model of it.
    """
    if accelerator:
        device, capacity = accelerator, accelerators.named_capacity(accelerator)
        dtype = accelerators.named_dtype(accelerator)
        if config.compute_dtype != "auto":
            dtype = DTYPES[config.compute_dtype]
    else:
        here = pick_device(config.device)
        device, capacity = str(here), accelerators.capacity_here(here)
        dtype = pick_dtype(here, config.compute_dtype)
    model = _model_without_weights(config, dtype)
    rows, trained = _rows(model, config, footprint)
    changes = [] if sum(row.size for row in rows) <= capacity else list(_changes(model, config, footprint, capacity))
    parameters = sum(weight.numel() for weight in model.parameters())
    return FitPlan(device, capacity, parameters, trained, rows, changes)


def _model_without_weights(config: ModelConfig, dtype: torch.dtype) -> PreTrainedModel:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fetch_config(config.source, config.revision, folder, config.trust_remote_code)
        write_manifest(folder, ModelManifest(trust_remote_code=config.trust_remote_code))
        model_config = load_config(folder)
        try:
            with torch.device("meta"):
                model: Any = AutoModelForCausalLM.from_config(
                    model_config, dtype=dtype, trust_remote_code=config.trust_remote_code
                )
        except (ValueError, TypeError, KeyError, ImportError) as error:
            raise ModelLoadingError(
                f"{config.source} is no causal language model that transformers can make: {error}"
            ) from error
    model.requires_grad_(False)
    return model


def _rows(model: PreTrainedModel, config: ModelConfig, footprint: FootprintConfig) -> tuple[list[PlanRow], int]:
    linear = [layer for layer in linear_layers(model).values() if layer is not model.get_output_embeddings()]
    adapted = list(target_layers(model, footprint.target_modules).values())
    trained = sum(_adapter_weights(layer, footprint) for layer in adapted)
    weights = _weights(model, linear, config.quantization)
    logits, logits_how = _logits(model, adapted, footprint)
    kept, how = _activations(model, adapted, config, footprint)
    widest = max((sum(layer.weight.shape) for layer in linear), default=0)
    largest = max((layer.weight.numel() for layer in linear), default=0)
    tokens = footprint.batch_size * footprint.max_length
    work = (tokens * widest + (0 if config.quantization == "none" else largest)) * model.dtype.itemsize
    if footprint.use_dora:
        work += max(map(_dora_workspace, adapted), default=0)
    return [
        PlanRow("weights", weights, _how_weights(model, config)),
        PlanRow("adapter", trained * ADAPTER_ITEMSIZE, f"{trained:,} weights in float32, rank {footprint.rank}"),
        PlanRow("gradients", trained * ADAPTER_ITEMSIZE, "of the adapter, float32"),
        PlanRow("optimizer", trained * ADAPTER_ITEMSIZE * ADAMW_STATES, "AdamW's two states, float32"),
        PlanRow("activations", kept, how),
        PlanRow("logits", logits, logits_how),
        PlanRow("workspace", work, "the widest layer's gradients, a layer being dequantized"),
    ], trained


def _adapter_weights(layer: Any, footprint: FootprintConfig) -> int:
    """LoRA's A and B (arXiv 2106.09685), and DoRA's magnitude of each output (arXiv 2402.09353)."""
    in_features, out_features = _features(layer)
    return footprint.rank * (in_features + out_features) + (out_features if footprint.use_dora else 0)


def _weights(model: PreTrainedModel, linear: list[Any], quantization: str) -> int:
    everything = sum(weight.numel() * weight.element_size() for weight in (*model.parameters(), *model.buffers()))
    if quantization == "none":
        return everything
    quantized = sum(layer.weight.numel() for layer in linear)
    scales = sum(layer.weight.shape[0] * _FP32 for layer in linear) if quantization == "int8" else 0
    return int(everything + quantized * (BYTES_PER_WEIGHT[quantization] - model.dtype.itemsize)) + scales


def _how_weights(model: PreTrainedModel, config: ModelConfig) -> str:
    if config.quantization == "none":
        return _type(model)
    return f"linear layers in {config.quantization}, {_type(model)} for the rest"


def _activations(
    model: PreTrainedModel, adapted: list[Any], config: ModelConfig, footprint: FootprintConfig
) -> tuple[int, str]:
    """Bytes from the forward pass to the backward pass, and how they were found.

    With checkpointing, each layer's input, and one layer at a time whole (arXiv 1604.06174). Where the model
    cannot be traced, 34 bytes for each token, hidden feature and layer (arXiv 2205.05198, section 4.1, without
    the attention scores, which fused kernels do not keep), and 12 more for a gated MLP.
    """
    batch, length = footprint.batch_size, footprint.max_length
    text = model.config.get_text_config()
    tokens, itemsize = batch * length, model.dtype.itemsize
    fused = [layer for layer in adapted if _is_fused(layer, config, footprint)]
    try:
        kept = activations.saved_bytes(model, fused, batch, length, eager=config.attention == "eager")
        how = "counted on a forward pass without weights"
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError) as error:
        kept = (34 + 12) * tokens * text.hidden_size * text.num_hidden_layers * itemsize // 2
        how = f"by the formula of arXiv 2205.05198, because the model cannot be traced ({type(error).__name__})"
    kept += sum(tokens * footprint.rank * itemsize for _ in adapted)
    kept += sum(tokens * _saved_per_token(layer, footprint, itemsize) for layer in adapted if layer not in fused)
    if footprint.gradient_checkpointing:
        kept = kept // text.num_hidden_layers + tokens * text.hidden_size * itemsize * text.num_hidden_layers
        how += "; one layer at a time, and every layer's input"
    return kept, how


def _is_fused(layer: Any, config: ModelConfig, footprint: FootprintConfig) -> bool:
    """Whether an adapted layer saves its input in the model's dtype, as fused LoRA does."""
    return config.quantization == "none" and can_fuse_lora(layer, footprint.use_dora, footprint.dropout)


def _saved_per_token(layer: Any, footprint: FootprintConfig, itemsize: int) -> int:
    """Bytes for each token that PEFT's own forward pass saves: a float32 copy of the input, the mask of dropout, and
    for DoRA the outputs of the base layer and of the adapter."""
    in_features, out_features = _features(layer)
    mask = in_features if footprint.dropout else 0
    return in_features * _FP32 + mask + (out_features * (itemsize + _FP32) if footprint.use_dora else 0)


def _dora_workspace(layer: Any) -> int:
    """Bytes that DoRA's norm of a merged weight takes: an identity matrix, and four matrices like the weight."""
    in_features, out_features = _features(layer)
    return in_features * (in_features + 4 * out_features) * _FP32


def _features(layer: Any) -> tuple[int, int]:
    """Input and output features of a linear layer."""
    return (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else tuple(layer.weight.shape)


def _logits(model: PreTrainedModel, adapted: list[Any], footprint: FootprintConfig) -> tuple[int, str]:
    """Bytes from the output head to the loss, and how they are computed.

    For each logit of a chunk: in the model's dtype, in float32 where that is another, and as log-probability in
    float32; and two tensors like the hidden states. Without chunks all logits exist at one time, with a copy and their
    gradients.
    """
    text = model.config.get_text_config()
    tokens, itemsize = footprint.batch_size * footprint.max_length, model.dtype.itemsize
    if not _is_loss_chunked(model, adapted):
        return tokens * text.vocab_size * (2 * itemsize + 3 * _FP32), "of all positions, with their gradients"
    per_logit = itemsize + _FP32 + (_FP32 if itemsize < _FP32 else 0)
    chunk = min(LOGITS_CHUNK, tokens)
    size = chunk * text.vocab_size * per_logit + 2 * tokens * text.hidden_size * itemsize
    return size, f"{LOGITS_CHUNK} label positions at a time, and the gradient of the hidden states"


def _is_loss_chunked(model: PreTrainedModel, adapted: list[Any]) -> bool:
    """Whether the loss computes logits in chunks, as training/loss.py decides with a batch."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or any(layer is head for layer in adapted):
        return False
    try:
        return activations.returns_head_output(model)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError):
        return True  # the model cannot be traced, and most return the output of their head


def _type(model: PreTrainedModel) -> str:
    return str(model.dtype).removeprefix("torch.")


def _changes(
    model: PreTrainedModel, config: ModelConfig, footprint: FootprintConfig, capacity: int
) -> Iterator[Change]:
    """Each change that is enough by itself; if none is, as many of them together as it takes."""
    savings = dict(_savings(config, footprint))
    alone = {name: _needed(model, config, footprint, {name: value}) for name, value in savings.items()}
    enough = [name for name in savings if alone[name] <= capacity]
    for name in enough:
        yield Change(_setting({name: savings[name]}), alone[name], True)
    if not enough and savings:
        yield _together(model, config, footprint, capacity)


def _together(model: PreTrainedModel, config: ModelConfig, footprint: FootprintConfig, capacity: int) -> Change:
    """Change one thing after the other, if it saves memory on top of those before, until it fits."""
    way: dict[str, Any] = {}
    needed = _needed(model, config, footprint, way)
    for name, value in _savings(config, footprint):
        if needed > capacity and (less := _needed(model, config, footprint, {**way, name: value})) < needed:
            way, needed = {**way, name: value}, less
    return Change(_setting(way), needed, needed <= capacity)


def _savings(config: ModelConfig, footprint: FootprintConfig) -> Iterator[tuple[str, Any]]:
    """What may be changed, that which changes the trained model least first."""
    if not footprint.gradient_checkpointing:
        yield "training.gradient_checkpointing", True
    if footprint.batch_size > 1:
        yield "training.batch_size", 1
    if config.quantization != "nf4":
        yield "model.quantization", "nf4"
    if footprint.rank > _SMALLER_RANK:
        yield "training.rank", _SMALLER_RANK
    if footprint.max_length >= _SHORTEST_TO_HALVE:
        yield "training.max_length", footprint.max_length // 2


def _needed(model: PreTrainedModel, config: ModelConfig, footprint: FootprintConfig, way: dict[str, Any]) -> int:
    changed = {name.split(".")[1]: value for name, value in way.items()}
    quantization = {"quantization": changed.pop("quantization")} if "quantization" in changed else {}
    rows, _ = _rows(model, config.model_copy(update=quantization), footprint.model_copy(update=changed))
    return sum(row.size for row in rows)


def _setting(way: dict[str, Any]) -> str:
    return " ".join(f"{name}={str(value).lower()}" for name, value in way.items())
