"""What names and shapes of a base's tensors say against training and merging it. No weight is read."""

from collections.abc import Mapping
from pathlib import Path

from transformers import PreTrainedModel
from transformers.quantizers.base import MODULES_TO_PATCH_FOR_QUANTIZATION

from loraline.errors import ConfigurationError, ModelLoadingError
from loraline.models.meta_model import build_meta_model
from loraline.models.safetensors_files import FLOAT_DTYPES
from loraline.models.safetensors_header import StoredTensor
from loraline.models.stored_layout import StoredLayout
from loraline.models.target_modules import ALL_LINEAR, target_experts, target_layers
from loraline.training.config import TrainConfig

_SHOWN = 3


def layout_problems(
    folder: Path,
    source: str,
    tensors: Mapping[str, StoredTensor],
    training: TrainConfig | None,
    quantization: str = "none",
) -> list[str]:
    """Whether the weights that a model needs are there, and the adapted ones are in a form that can be merged.

    Args:
        folder: with the base's config.json.
        source: where the base comes from, for a message.
        tensors: those in the base's files, by name; none: they are not looked at.
        training: the settings of the adapter; None: the base alone is looked at.
        quantization: `model.quantization`.
    """
    try:
        network = build_meta_model(folder, source)
    except ModelLoadingError as error:
        return [str(error)]
    problems = [] if quantization == "none" else _problems_of_quantization(network, quantization)
    if training and _says_something(training):
        from loraline.training.adapter import target_problems  # with PEFT, which takes seconds to import

        problems += target_problems(network, training)
    if not tensors:
        return problems
    layout = StoredLayout(network, {name: tensor.shape for name, tensor in tensors.items()})
    if missing := layout.missing():
        problems.append(f"its files lack weights that its config.json needs: {_list(missing)}")
        return problems
    return problems + (_problems_of_targets(network, layout, tensors, training) if training else [])


def _problems_of_quantization(network: PreTrainedModel, quantization: str) -> list[str]:
    rebuilt = {type(module).__name__ for module in network.modules()} & MODULES_TO_PATCH_FOR_QUANTIZATION.keys()
    return [
        f"model.quantization={quantization}: transformers takes another module for {name} in a quantized model, and "
        "does not find its weights in the files; set model.quantization=none"
        for name in sorted(rebuilt)
    ]


def _says_something(training: TrainConfig) -> bool:
    """Whether the adapter's settings say anything that a model could lack."""
    return training.target_modules != ALL_LINEAR or training.use_dora or training.dropout > 0


def require_targets(folder: Path, training: TrainConfig) -> None:
    """Refuse settings of the adapter that do not suit the model in a folder, before its weights are loaded.

    Raises:
        ConfigurationError: with all problems.
    """
    if problems := layout_problems(folder, str(folder), {}, training):
        raise ConfigurationError("\n".join(problems))


def _problems_of_targets(
    network: PreTrainedModel, layout: StoredLayout, tensors: Mapping[str, StoredTensor], training: TrainConfig
) -> list[str]:
    absent, unmergeable = [], set()
    tied = getattr(network, "all_tied_weights_keys", None) or {}
    layers = target_layers(network, training.target_modules)
    for name in (*(f"{layer}.weight" for layer in layers), *target_experts(network, training.target_modules)):
        try:
            parts = layout.parts(name)
        except ModelLoadingError:
            if name not in tied:  # which is a problem of its own
                absent.append(name)
            continue
        unmergeable |= {tensors[part.tensor].dtype for part in parts} - FLOAT_DTYPES.keys()
    problems = []
    if absent:
        problems.append(f"{_list(absent)} are in the files in a form that cannot be written back")
    if unmergeable:
        problems.append(
            f"weights that get an adapter are stored as {', '.join(sorted(unmergeable))}, and a merge needs them in 16 "
            "or 32 bit; take the repository in 16 bit"
        )
    return problems


def _list(names: list[str]) -> str:
    hidden = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {hidden} more" if hidden > 0 else "")
