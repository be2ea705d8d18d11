"""The adapter: put on the base, made fast, checked to be all that is trained, and written."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from loraline.errors import ConfigurationError, TrainingError
from loraline.models.folder import read_manifest
from loraline.models.peft_files import ADAPTER_CONFIG
from loraline.training.config import TrainConfig

_ALL_LINEAR = ["all-linear"]
_ADAPTER = "default"  # peft's name for a model's only adapter


def attach(base: PreTrainedModel, config: TrainConfig) -> PeftModel:
    """Put a new adapter on a frozen base: fp32 weights that add nothing yet.

    Raises:
        ConfigurationError: a target module is not in the model, or is one end of tied embeddings.
        TrainingError: something else than the adapter would be trained.
    """
    _check_targets(base, config.target_modules)
    plan = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # a float is fine
        lora_dropout=config.dropout,
        target_modules="all-linear" if config.target_modules == _ALL_LINEAR else config.target_modules,
        use_dora=config.use_dora,
        use_rslora=config.use_rslora,
        task_type="CAUSAL_LM",
    )
    there = ", ".join(sorted(_linear_names(base)))
    try:
        model = get_peft_model(base, plan)
    except ValueError as error:
        raise ConfigurationError(
            f"training.target_modules={config.target_modules}: PEFT puts no such adapter on this model: {error} "
            f"Name linear layers that can take one: it has {there}."
        ) from error
    assert isinstance(model, PeftModel)
    strangers = [name for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name]
    if strangers:
        raise TrainingError(
            f"{len(strangers)} weights outside the adapter would be trained, the first is {strangers[0]!r}; "
            "the base must come frozen from load_model"
        )
    for module in model.modules():
        if isinstance(module, LoraLayer) and _can_be_fused(module, config):
            module.forward = _fused_forward(module)
    return model


def _check_targets(base: PreTrainedModel, targets: list[str]) -> None:
    """Raises ConfigurationError where a name fits no linear layer, or one whose adapter cannot be merged."""
    if targets == _ALL_LINEAR:
        return
    linear = [name for name, module in base.named_modules() if _is_linear(module)]
    unknown = [t for t in targets if not any(name == t or name.endswith(f".{t}") for name in linear)]
    if unknown:
        raise ConfigurationError(
            f"training.target_modules: no linear layer is called {', '.join(map(repr, unknown))}; this model has "
            f'{", ".join(sorted(_linear_names(base)))}. ["all-linear"] takes all but the output head.'
        )
    head = base.get_output_embeddings()
    ends = [name for name, module in base.named_modules() if head is not None and module is head]
    tied = head is not None and head.weight is base.get_input_embeddings().weight
    if tied and any(name == t or name.endswith(f".{t}") for name in ends for t in targets):
        raise ConfigurationError(
            f"training.target_modules: {ends[0]!r} shares its weights with the model's input embeddings "
            "(tie_word_embeddings), and an adapter changes one of the two ends only, so that it could not be merged; "
            "leave it out"
        )


def _linear_names(base: PreTrainedModel) -> set[str]:
    return {name.rsplit(".", 1)[-1] for name, module in base.named_modules() if _is_linear(module)}


def _is_linear(module: nn.Module) -> bool:
    # bitsandbytes' layers are nn.Linear too; GPT-2 and its kin have Conv1D.
    return isinstance(module, (nn.Linear, Conv1D))


def trained(model: PeftModel) -> dict[str, nn.Parameter]:
    """The adapter's weights by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def snapshot(model: PeftModel) -> dict[str, Tensor]:
    """A copy of the adapter's weights, in memory."""
    return {name: p.detach().clone().cpu() for name, p in trained(model).items()}


def restore(model: PeftModel, weights: dict[str, Tensor]) -> None:
    """Give the adapter the weights of a snapshot."""
    with torch.no_grad():
        for name, p in trained(model).items():
            p.copy_(weights[name])


def check_gradients(model: PeftModel) -> None:
    """See, after the first backward pass, that every adapter learns.

    Only the B matrices can be asked: they start at zero, so the gradient of the A matrices is zero in the
    first step. Experts that no token was sent to have none either, rightly.

    Raises:
        TrainingError: an adapter got no gradient.
    """
    dead = [
        name
        for name, p in trained(model).items()
        if ".lora_B." in name and "expert" not in name and (p.grad is None or not p.grad.any())
    ]
    if dead:
        raise TrainingError(
            f"{len(dead)} adapter layers got no gradient in the first step, so they would learn nothing; the first "
            f"is {dead[0]!r}. On a quantized base this is a fault of the kernel: try model.quantization=none, or "
            "another device. On other models leave these layers out of training.target_modules."
        )


def save(model: PeftModel, output: Path) -> None:
    """Write the adapter in PEFT's layout."""
    model.save_pretrained(str(output), safe_serialization=True)
    _name_base(output / ADAPTER_CONFIG)
    card = output / "README.md"  # peft's empty model card; the report step writes the real one
    card.unlink(missing_ok=True)


def _name_base(settings: Path) -> None:
    """Name the base by what the recipe calls it; PEFT writes the folder that it was loaded from, which will be gone."""
    content = json.loads(settings.read_text(encoding="utf-8"))
    manifest = read_manifest(Path(content["base_model_name_or_path"]))
    if manifest.source:
        content |= {"base_model_name_or_path": manifest.source, "revision": manifest.revision or None}
        settings.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _can_be_fused(module: LoraLayer, config: TrainConfig) -> bool:
    """Whether a layer is plain LoRA on a plain linear layer, without dropout between them."""
    return (
        type(module) is LoraLinear
        and type(module.base_layer) is nn.Linear
        and not config.use_dora
        and config.dropout == 0
    )


def _fused_forward(layer: LoraLayer) -> Any:
    base = layer.get_base_layer()
    a, b = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
    scale = layer.scaling[_ADAPTER]

    def forward(x: Tensor) -> Tensor:
        return _FusedLora.apply(x, base.weight, base.bias, a, b, scale)

    return forward


class _FusedLora(torch.autograd.Function):
    """x W^T + bias + scale (x A^T) B^T, in the base's type.

    PEFT's own forward casts x to the adapter's fp32, keeps that copy for the backward pass and computes in it.
    Here the small matrices are cast instead, and both products are added in place.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        a, b = a.to(weight.dtype), b.to(weight.dtype)
        rows = x.reshape(-1, x.shape[-1])
        down = rows @ a.T
        output = functional.linear(rows, weight, bias).addmm_(down, b.T, alpha=scale)
        ctx.save_for_backward(rows, weight, a, b, down)
        ctx.scale, ctx.shape = scale, x.shape
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, a, b, down = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        up = (gradient @ b).mul_(ctx.scale)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = (gradient @ weight).addmm_(up, a).view(ctx.shape)
        d_a = (up.T @ rows).float()
        d_b = (gradient.T @ down).float().mul_(ctx.scale)
        return d_x, None, None, d_a, d_b, None
