"""The LoRA adapter: added to the base model, checked to be all that is trained, and saved in PEFT's layout."""

import json
import re
from collections import Counter
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer, ParamWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from loraline.errors import ConfigurationError, TrainingError
from loraline.models.expert_lora import use_expert_lora
from loraline.models.experts import expert_names
from loraline.models.folder import read_manifest
from loraline.models.lora_injection import inject_lora, lora_targets
from loraline.models.peft_files import ADAPTER_CONFIG
from loraline.models.target_modules import ALL_LINEAR, is_match, target_experts, unreachable_targets
from loraline.models.text_decoder import linear_layers
from loraline.training.config import TrainConfig
from loraline.training.fused_lora import use_fused_lora

_SINGLE_EXPERT = re.compile(r"experts?\.\d+\.")
"""In the name of a layer that belongs to one of several experts."""


def add_adapter(base: PreTrainedModel, config: TrainConfig) -> PeftModel:
    """Add a new adapter to a frozen base model: float32 weights whose update is still zero.

    Raises:
        ConfigurationError: as `check_targets`, or PEFT does not support a layer.
        TrainingError: weights outside the adapter would be trained.
    """
    check_targets(base, config)
    targets = lora_targets(base, config.target_modules)
    lora_config = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # a float is fine
        lora_dropout=config.dropout,
        target_modules=targets.modules,
        target_parameters=targets.parameters or None,
        use_dora=config.use_dora,
        use_rslora=config.use_rslora,
        task_type="CAUSAL_LM",
    )
    available = _available_names(base)
    try:
        model = inject_lora(base, lora_config)
    except ValueError as error:
        raise ConfigurationError(
            f"training.target_modules={config.target_modules}: PEFT cannot add this adapter to the model: {error} "
            f"Name linear layers that support it; the model has {available}."
        ) from error
    others = [name for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name]
    if others:
        raise TrainingError(
            f"{len(others)} weights outside the adapter would be trained, the first is {others[0]!r}; "
            "the base must come frozen from load_model"
        )
    use_fused_lora(model, config)
    use_expert_lora(model)
    return model


def check_targets(base: PreTrainedModel, config: TrainConfig) -> None:
    """Check, also on the meta device, that the layers to adapt exist, and that their adapter can be trained and merged.

    Raises:
        ConfigurationError: as `target_problems` says.
    """
    if problems := target_problems(base, config):
        raise ConfigurationError("\n".join(problems))


def target_problems(base: PreTrainedModel, config: TrainConfig) -> list[str]:
    """What is wrong with the layers to adapt: not in the model, in a tower, one end of tied embeddings, and so on."""
    names = [] if config.target_modules == ALL_LINEAR else _problems_of_names(base, config.target_modules)
    return [*names, *_problems_of_experts(base, config)]


def _problems_of_experts(base: PreTrainedModel, config: TrainConfig) -> list[str]:
    """What an adapter of experts cannot have, because it is a part of their weights."""
    unsupported = []
    if config.dropout:
        unsupported.append(f"training.dropout={config.dropout} (set it to 0)")
    if config.use_dora:
        unsupported.append("training.use_dora=true (set it to false)")
    if unsupported and lora_targets(base, config.target_modules).parameters:
        return [
            f"{' and '.join(unsupported)} cannot be had for the experts of this model: PEFT adds the update to their "
            f"weights. Or leave them out of training.target_modules, and name others of {_available_names(base)}"
        ]
    return []


def _problems_of_names(base: PreTrainedModel, target_modules: list[str]) -> list[str]:
    """Names that match nothing, or a layer whose adapter cannot be trained or merged."""
    layers = linear_layers(base)
    unknown = [
        target
        for target in target_modules
        if not any(is_match(name, target) for name in layers) and not target_experts(base, [target])
    ]
    problems = unreachable_targets(base, target_modules)
    if unknown:
        problems.append(
            f"training.target_modules: no linear layer is called {', '.join(map(repr, unknown))}; this model has "
            f'{_available_names(base)}. ["all-linear"] selects all except output head and routers.'
        )
    head = base.get_output_embeddings()
    head_names = [name for name, module in base.named_modules() if head is not None and module is head]
    tied = head is not None and head.weight is base.get_input_embeddings().weight
    if tied and any(is_match(name, target) for name in head_names for target in target_modules):
        problems.append(
            f"training.target_modules: {head_names[0]!r} shares its weights with the model's input embeddings "
            "(tie_word_embeddings), and an adapter would change only one of them, so that it could not be merged; "
            "remove it from the list"
        )
    return problems


def _available_names(base: PreTrainedModel) -> str:
    names = sorted({name.rsplit(".", 1)[-1] for name in linear_layers(base)})
    return ", ".join([*names, *expert_names(base)])


def describe_adapter(model: PeftModel) -> str:
    """What has an adapter: linear layers and routed experts by name, and how many there are of each name."""
    names: Counter[str] = Counter()
    for name, module in model.named_modules():
        if isinstance(module, ParamWrapper):
            names[f"{name.replace('.base_layer', '').rsplit('.', 1)[-1]}.{module.parameter_name}"] += 1
        elif isinstance(module, LoraLayer):
            names[name.rsplit(".", 1)[-1]] += 1
    return ", ".join(f"{name} ({count})" for name, count in sorted(names.items()))


def count_expert_weights(model: PeftModel) -> int:
    """Number of the adapter's weights that are for routed experts."""
    wrappers = [module for module in model.modules() if isinstance(module, ParamWrapper)]
    return sum(
        weight.numel()
        for wrapper in wrappers
        for layers in (wrapper.lora_A, wrapper.lora_B)
        for weight in layers.parameters()
    )


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
    step. Where each expert is a layer of its own, one that no token was routed to rightly has none either.

    Raises:
        TrainingError: an adapter layer got no gradient.
    """
    dead = [
        name
        for name, p in trainable_parameters(model).items()
        if ".lora_B." in name and not _SINGLE_EXPERT.search(name) and (p.grad is None or not p.grad.any())
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
    _finish_config(output / ADAPTER_CONFIG)
    model_card = output / "README.md"  # PEFT's empty model card; the report step writes the real one
    model_card.unlink(missing_ok=True)


def _finish_config(adapter_config: Path) -> None:
    """Name the base as the recipe does, and not by the temporary folder that PEFT writes; put the targets in order."""
    content = json.loads(adapter_config.read_text(encoding="utf-8"))
    for targets in ("target_modules", "target_parameters"):  # sets in PEFT, whose order differs from run to run
        content[targets] = sorted(content[targets]) if content.get(targets) else content.get(targets)
    manifest = read_manifest(Path(content["base_model_name_or_path"]))
    if manifest.source:
        content |= {"base_model_name_or_path": manifest.source, "revision": manifest.revision or None}
    adapter_config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
