"""Match an adapter's weights with the base's: which weight gets which low-rank update.

Every mismatch between adapter and base is reported here, before any arithmetic.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from safetensors import safe_open
from transformers.pytorch_utils import Conv1D

from loraline.errors import AdapterError, ModelLoadingError
from loraline.merging.expert_updates import Experts, adapted_parameter, is_target, stored_experts
from loraline.models.meta_model import build_meta_model
from loraline.models.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from loraline.models.safetensors_header import StoredTensor
from loraline.models.stored_layout import StoredLayout, StoredPart

_MAGNITUDE = "lora_magnitude_vector"
_LINEAR_FACTORS = ("lora_A.weight", "lora_B.weight")
_EMBEDDING_FACTORS = ("lora_embedding_A", "lora_embedding_B")
_PARTS = "|".join(re.escape(part) for part in (*_LINEAR_FACTORS, *_EMBEDDING_FACTORS, _MAGNITUDE))
_KEY = re.compile(rf"base_model\.model\.(?P<module>.+)\.(?P<part>{_PARTS})")
# PEFT settings that change what an adapter computes, and that Loraline does not train with.
_UNSUPPORTED_SETTINGS = (
    "alora_invocation_tokens",
    "arrow_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "use_qalora",
)
_SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class WeightUpdate:
    """The update of one weight W: W + scale * B @ A; with DoRA its rows are then scaled to the magnitudes.

    A stored tensor that holds rows of several parameters has several updates.
    """

    tensor: str
    """Name of the weight in the base's files."""
    lora_b: str
    """Key of B in the adapter's file, shape ``(out, rank)``."""
    lora_a: str
    """Key of A in the adapter's file, shape ``(rank, in)``."""
    magnitude: str | None
    """Key of DoRA's magnitude vector, shape ``(out,)``."""
    scale: float
    transposed: bool
    """The weight is stored as ``(in, out)``: an embedding, or a Conv1D of GPT-2."""
    rows: torch.Tensor | None = None
    """The row of B for each row of the stored tensor, -1 for a row that this update leaves as it is. None: they are the
    same."""
    experts: Experts | None = None
    """For the weights of routed experts, which have one A and one B for all."""


def plan_updates(base: Path, adapter: Path, tensors: dict[str, StoredTensor]) -> list[WeightUpdate]:
    """Match the adapter's weights with the base's.

    Args:
        base: a model folder.
        adapter: a PEFT folder.
        tensors: the header entries of the base's files, by name.

    Raises:
        AdapterError: the adapter is of a kind that cannot be merged, or does not fit this base; all problems at once.
        ModelLoadingError: the base's configuration cannot be read.
    """
    settings = _read_settings(adapter)
    with safe_open(adapter / ADAPTER_WEIGHTS, "pt") as weights:
        shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
    modules, problems = _group(shapes)
    network = build_meta_model(base, str(base))
    layout = StoredLayout(network, {name: tensor.shape for name, tensor in tensors.items()})
    updates: list[WeightUpdate] = []
    for module, parts in sorted(modules.items()):
        try:
            updates += _updates(module, parts=parts, shapes=shapes, settings=settings, network=network, layout=layout)
        except (AdapterError, ModelLoadingError) as error:
            problems.append(str(error))
    if not updates and not problems:
        problems.append("it has no weights")
    if problems:
        shown = "".join(f"\n- {problem}" for problem in problems[:_SHOWN_PROBLEMS])
        hidden = len(problems) - _SHOWN_PROBLEMS
        more = f"\n- and {hidden} more" if hidden > 0 else ""
        raise AdapterError(f"the adapter in {adapter} cannot be merged into the base in {base}:{shown}{more}")
    return updates


def _read_settings(adapter: Path) -> dict[str, Any]:
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (adapter / name).exists():
            raise AdapterError(f"{adapter} is not an adapter: {name} is missing; run train_lora again")
    settings: dict[str, Any] = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    unsupported = [name for name in _UNSUPPORTED_SETTINGS if settings.get(name)]
    if settings.get("peft_type") != "LORA":
        unsupported.append("peft_type")
    if settings.get("bias", "none") != "none":
        unsupported.append("bias")
    if unsupported:
        named = ", ".join(f"{name}={settings.get(name)!r}" for name in unsupported)
        raise AdapterError(
            f"the adapter in {adapter} has {named}, which this merge does not support; merge it with "
            "PEFT's merge_and_unload, or train without"
        )
    return settings


def _group(keys: Any) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Group the adapter's keys by module and part; the keys that are not LoRA's are returned as problems."""
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    problems = []
    for key in keys:
        match = _KEY.fullmatch(key)
        if match:
            modules[match["module"]][match["part"]] = key
        elif not key.endswith(".base_layer.weight"):  # PEFT adds copies of the base's embeddings
            problems.append(f"{key!r} is not a weight of a LoRA adapter")
    return modules, problems


def _updates(
    module: str,
    *,
    parts: dict[str, str],
    shapes: dict[str, tuple[int, ...]],
    settings: dict[str, Any],
    network: Any,
    layout: StoredLayout,
) -> list[WeightUpdate]:
    parameter = adapted_parameter(module, network, settings.get("target_parameters") or [])
    if parameter:
        return _expert_updates(parameter, parts=parts, shapes=shapes, settings=settings, network=network, layout=layout)
    layer = _layer(module, network)
    is_embedding = isinstance(layer, torch.nn.Embedding)
    factors = _EMBEDDING_FACTORS if is_embedding else _LINEAR_FACTORS
    names = [*factors, _MAGNITUDE] if settings.get("use_dora") else factors
    lora_a, lora_b = _keys(module, parts, names)[:2]
    transposed = is_embedding or isinstance(layer, Conv1D)
    expected = (shapes[lora_b][0], shapes[lora_a][1])
    expected = expected[::-1] if transposed else expected
    if tuple(layer.weight.shape) != expected or shapes[lora_b][1] != shapes[lora_a][0]:
        raise AdapterError(
            f"the update of {module} has shape {expected}, and the base's weight {tuple(layer.weight.shape)}"
        )
    scale = _scale(module, shapes[lora_a][0], settings)
    stored = layout.parts(f"{module}.weight")
    _check_form(module, stored, layer, layout)
    magnitude = parts.get(_MAGNITUDE)
    return [WeightUpdate(one.tensor, lora_b, lora_a, magnitude, scale, transposed, one.rows) for one in stored]


def _keys(adapted: str, parts: dict[str, str], names: Sequence[str]) -> list[str]:
    """Keys of the parts of an update, A and B first; AdapterError where one is missing."""
    missing = [part for part in names if part not in parts]
    if missing:
        raise AdapterError(f"{adapted} lacks {', '.join(missing)}")
    return [parts[name] for name in names]


def _expert_updates(
    parameter: str,
    *,
    parts: dict[str, str],
    shapes: dict[str, tuple[int, ...]],
    settings: dict[str, Any],
    network: Any,
    layout: StoredLayout,
) -> list[WeightUpdate]:
    lora_a, lora_b = _keys(parameter, parts, _LINEAR_FACTORS)
    stored = stored_experts(parameter, shapes[lora_b], shapes[lora_a], network, layout)
    return [
        WeightUpdate(
            tensor,
            lora_b,
            lora_a,
            magnitude=None,
            scale=_scale(parameter, shapes[lora_a][0] // experts.count, settings),
            transposed=experts.transposed,
            experts=experts,
        )
        for tensor, experts in stored.items()
    ]


def _scale(name: str, rank: int, settings: dict[str, Any]) -> float:
    """What an update is multiplied by: that of its name where the adapter has a pattern for it."""
    if is_target(f"{name}.weight", settings.get("target_parameters") or []):
        name = f"{name}.weight"  # PEFT knows a layer that is targeted by its weight by that
    patterns = settings.get("alpha_pattern") or {}
    alpha: float = patterns.get(get_pattern_key(list(patterns), name), settings["lora_alpha"])
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _check_form(module: str, stored: list[StoredPart], layer: Any, layout: StoredLayout) -> None:
    """Refuse a weight whose stored form this merge cannot write."""
    for part in stored:
        shape = layout.shape(part.tensor)
        if part.rows is None and shape != tuple(layer.weight.shape):
            raise AdapterError(
                f"the weight of {module} has shape {tuple(layer.weight.shape)}, and {part.tensor} in the files {shape}"
            )
        if part.transposed or (part.rows is not None and not isinstance(layer, torch.nn.Linear)):
            raise AdapterError(f"{module} is stored transposed, as {part.tensor}, which this merge does not support")


def _layer(module: str, network: Any) -> Any:
    try:
        layer = network.get_submodule(module)
    except AttributeError:
        raise AdapterError(f"the base has no module {module}") from None
    if not isinstance(layer, (torch.nn.Linear, torch.nn.Embedding, Conv1D)):
        raise AdapterError(f"{module} is a {type(layer).__name__}, which this merge does not support")
    embeddings = [network.get_input_embeddings(), network.get_output_embeddings()]
    if layer in embeddings and all(one is not None and one.weight is layer.weight for one in embeddings):
        raise AdapterError(
            f"{module} shares its weights between input embeddings and output head (tie_word_embeddings), and an "
            "adapter changes only one of them; leave it out of training.target_modules"
        )
    return layer
