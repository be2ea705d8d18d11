"""The LoRA adapter: added to the base model, checked to be all that is trained, and saved in PEFT's layout."""

import json
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from loraline.errors import ConfigurationError, TrainingError
from loraline.models.folder import read_manifest
from loraline.models.peft_files import ADAPTER_CONFIG
from loraline.models.target_modules import ALL_LINEAR, is_match, linear_layers, target_layers, unreachable_targets
from loraline.training.config import TrainConfig
from loraline.training.fused_lora import use_fused_lora


def add_adapter(base: PreTrainedModel, config: TrainConfig) -> PeftModel:
    """Add a new adapter to a frozen base model: float32 weights whose update is still zero.

    Raises:
        ConfigurationError: a target module is not in the model, is not in its text decoder, or is one end of tied
            embeddings.
        TrainingError: weights outside the adapter would be trained.
    """
    _check_target_modules(base, config.target_modules)
    lora_config = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # a float is fine
        lora_dropout=config.dropout,
        target_modules=list(target_layers(base, config.target_modules)),
        use_dora=config.use_dora,
        use_rslora=config.use_rslora,
        task_type="CAUSAL_LM",
    )
    available = _available_names(base)
    try:
        model = get_peft_model(base, lora_config)
    except ValueError as error:
        raise ConfigurationError(
            f"training.target_modules={config.target_modules}: PEFT cannot add this adapter to the model: {error} "
            f"Name linear layers that support it; the model has {available}."
        ) from error
    assert isinstance(model, PeftModel)
    others = [name for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name]
    if others:
        raise TrainingError(
            f"{len(others)} weights outside the adapter would be trained, the first is {others[0]!r}; "
            "the base must come frozen from load_model"
        )
    use_fused_lora(model, config)
    return model


def _check_target_modules(base: PreTrainedModel, target_modules: list[str]) -> None:
    """Raise ConfigurationError where a name matches no linear layer, or one whose adapter cannot be merged."""
    if target_modules == ALL_LINEAR:
        return
    layers = linear_layers(base)
    unknown = [target for target in target_modules if not any(is_match(name, target) for name in layers)]
    if unknown:
        raise ConfigurationError(
            f"training.target_modules: no linear layer is called {', '.join(map(repr, unknown))}; this model has "
            f'{_available_names(base)}. ["all-linear"] selects all except the output head.'
        )
    if unreachable := unreachable_targets(base, target_modules):
        raise ConfigurationError("; ".join(unreachable))
    head = base.get_output_embeddings()
    head_names = [name for name, module in base.named_modules() if head is not None and module is head]
    tied = head is not None and head.weight is base.get_input_embeddings().weight
    if tied and any(is_match(name, target) for name in head_names for target in target_modules):
        raise ConfigurationError(
            f"training.target_modules: {head_names[0]!r} shares its weights with the model's input embeddings "
            "(tie_word_embeddings), and an adapter would change only one of them, so that it could not be merged; "
            "remove it from the list"
        )


def _available_names(base: PreTrainedModel) -> str:
    return ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear_layers(base)}))


def trainable_parameters(model: PeftModel) -> dict[str, nn.Parameter]:
    """Return the adapter's weights by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def adapter_state(model: PeftModel) -> dict[str, Tensor]:
    """Return a copy of the adapter's weights, on the CPU."""
    return {name: p.detach().clone().cpu() for name, p in trainable_parameters(model).items()}


def load_adapter_state(model: PeftModel, state: dict[str, Tensor]) -> None:
    """Set the adapter's weights to those of `adapter_state`."""
    with torch.no_grad():
        for name, p in trainable_parameters(model).items():
            p.copy_(state[name])


def check_gradients(model: PeftModel) -> None:
    """Check after the first backward pass that every adapter layer gets a gradient.

    Only the B matrices are checked: they start at zero, so that the gradient of the A matrices is zero in the first
    step. Experts that no token was routed to rightly have none either.

    Raises:
        TrainingError: an adapter layer got no gradient.
    """
    dead = [
        name
        for name, p in trainable_parameters(model).items()
        if ".lora_B." in name and "expert" not in name and (p.grad is None or not p.grad.any())
    ]
    if dead:
        raise TrainingError(
            f"{len(dead)} adapter layers got no gradient in the first step, so they would learn nothing; the first "
            f"is {dead[0]!r}. On a quantized base this is a fault of the kernel: try model.quantization=none, or "
            "another device. On other models leave these layers out of training.target_modules."
        )


def save_adapter(model: PeftModel, output: Path) -> None:
    """Write the adapter in PEFT's layout."""
    model.save_pretrained(str(output), safe_serialization=True)
    _set_base_name(output / ADAPTER_CONFIG)
    model_card = output / "README.md"  # PEFT's empty model card; the report step writes the real one
    model_card.unlink(missing_ok=True)


def _set_base_name(adapter_config: Path) -> None:
    """Name the base as the recipe does; PEFT writes the folder that it was loaded from, which is temporary."""
    content = json.loads(adapter_config.read_text(encoding="utf-8"))
    manifest = read_manifest(Path(content["base_model_name_or_path"]))
    if manifest.source:
        content |= {"base_model_name_or_path": manifest.source, "revision": manifest.revision or None}
        adapter_config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
