"""Which weight of the base gets which part of the adapter.

All that can be wrong with the two is found here, before any arithmetic.
"""

import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from loraline.errors import AdapterError, ModelLoadingError
from loraline.merging.tensors import StoredTensor
from loraline.models.folder import load_config, read_manifest
from loraline.models.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

_PARTS = r"lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B|lora_magnitude_vector"
_KEY = re.compile(rf"base_model\.model\.(?P<module>.+)\.(?P<part>{_PARTS})")
# Settings of PEFT that change what an adapter computes, and that Loraline does not train with.
_FOREIGN_SETTINGS = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
)


@dataclass(frozen=True)
class Update:
    """What the adapter does to one weight W: W + scale * up @ down, and with DoRA new norms of its rows."""

    tensor: str
    """Name of the weight in the base's files."""
    up: str
    """Key of the adapter's B, shape ``(out, rank)``."""
    down: str
    """Key of the adapter's A, shape ``(rank, in)``."""
    magnitude: str | None
    """Key of DoRA's magnitudes, shape ``(out,)``."""
    scale: float
    transposed: bool
    """The weight lies as ``(in, out)``, as that of an embedding or of a Conv1D of GPT-2 does."""


def plan_updates(base: Path, adapter: Path, tensors: dict[str, StoredTensor]) -> list[Update]:
    """Match the adapter with the base's weights.

    Args:
        base: a model folder.
        adapter: a PEFT folder.
        tensors: what lies in the base's files, by name.

    Raises:
        AdapterError: the adapter is of a kind that is not merged, or does not belong to this base.
    """
    settings = _read_settings(adapter)
    with safe_open(adapter / ADAPTER_WEIGHTS, "pt") as weights:
        shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
    modules, problems = _group(shapes)
    skeleton = _skeleton(base)
    updates = []
    for module, parts in sorted(modules.items()):
        try:
            updates.append(
                _update(module, parts=parts, shapes=shapes, settings=settings, skeleton=skeleton, tensors=tensors)
            )
        except AdapterError as error:
            problems.append(str(error))
    if not updates and not problems:
        problems.append("it holds no weights")
    if problems:
        shown = "".join(f"\n- {problem}" for problem in problems[:10])
        more = f"\n- and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise AdapterError(f"the adapter in {adapter} cannot be merged into the base in {base}:{shown}{more}")
    return updates


def _read_settings(adapter: Path) -> dict[str, Any]:
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (adapter / name).exists():
            raise AdapterError(f"{adapter} holds no adapter: {name} is missing; run train_lora again")
    settings: dict[str, Any] = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    foreign = [name for name in _FOREIGN_SETTINGS if settings.get(name)]
    if settings.get("peft_type") != "LORA":
        foreign.append("peft_type")
    if settings.get("bias", "none") != "none":
        foreign.append("bias")
    if foreign:
        named = ", ".join(f"{name}={settings.get(name)!r}" for name in foreign)
        raise AdapterError(
            f"the adapter in {adapter} has {named}, which this merge does not know; merge it with "
            "PEFT's merge_and_unload, or train without"
        )
    return settings


def _group(keys: Any) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The adapter's keys by module and part; and what is wrong with the others."""
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    problems = []
    for key in keys:
        match = _KEY.fullmatch(key)
        if match:
            modules[match["module"]][match["part"]] = key
        elif not key.endswith(".base_layer.weight"):  # PEFT adds copies of the base's embeddings
            problems.append(f"{key!r} is no weight of a LoRA adapter")
    return modules, problems


def _skeleton(base: Path) -> Any:
    """The model without its weights, which knows what kind each module is."""
    trust = read_manifest(base).trust_remote_code
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(load_config(base), trust_remote_code=trust)
    except (ValueError, ImportError) as error:
        raise ModelLoadingError(f"{base / 'config.json'} makes no model: {error}; fetch it again") from error


def _update(
    module: str,
    *,
    parts: dict[str, str],
    shapes: dict[str, tuple[int, ...]],
    settings: dict[str, Any],
    skeleton: Any,
    tensors: dict[str, StoredTensor],
) -> Update:
    layer = _layer(module, skeleton)
    is_embedding = isinstance(layer, torch.nn.Embedding)
    factors = ["lora_embedding_A", "lora_embedding_B"] if is_embedding else ["lora_A.weight", "lora_B.weight"]
    names = [*factors, "lora_magnitude_vector"] if settings.get("use_dora") else factors
    missing = [part for part in names if part not in parts]
    if missing:
        raise AdapterError(f"{module} lacks {', '.join(missing)}")
    tensor = _stored_name(module, skeleton, tensors)
    down, up = (parts[name] for name in factors)
    transposed = is_embedding or isinstance(layer, Conv1D)
    expected = (shapes[up][0], shapes[down][1])
    expected = expected[::-1] if transposed else expected
    if tensors[tensor].shape != expected or shapes[up][1] != shapes[down][0]:
        raise AdapterError(f"{module} is made for a weight of shape {expected}; the base's has {tensors[tensor].shape}")
    rank = shapes[down][0]
    scale = settings["lora_alpha"] / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    return Update(tensor, up, down, parts.get("lora_magnitude_vector"), scale, transposed)


def _layer(module: str, skeleton: Any) -> torch.nn.Module:
    try:
        layer = skeleton.get_submodule(module)
    except AttributeError:
        raise AdapterError(f"the base has no module {module}") from None
    if not isinstance(layer, (torch.nn.Linear, torch.nn.Embedding, Conv1D)):
        raise AdapterError(f"{module} is a {type(layer).__name__}, which this merge does not know")
    ends = [skeleton.get_input_embeddings(), skeleton.get_output_embeddings()]
    if layer in ends and all(end is not None and end.weight is layer.weight for end in ends):
        raise AdapterError(
            f"{module} shares its weights with the other end of the base (tie_word_embeddings), and an "
            "adapter changes one end only; leave it out of training.target_modules"
        )
    return layer


def _stored_name(module: str, skeleton: Any, tensors: dict[str, StoredTensor]) -> str:
    """Name of a module's weight in the files. Some files leave the prefix of the model's body out."""
    name = f"{module}.weight"
    for candidate in (name, name.removeprefix(f"{skeleton.base_model_prefix}.")):
        if candidate in tensors:
            return candidate
    raise AdapterError(
        f"the base's files have no tensor {name}: they name their tensors otherwise than the model does; "
        "save the base again with save_pretrained"
    )
