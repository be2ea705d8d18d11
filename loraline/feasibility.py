"""Can a base with these settings be trained, merged and exported? Said from what is cheap to read, before any weight.

Configuration, and names, shapes and dtypes of the tensors in the files: some kB. How much of it can be checked depends
on what is installed, since a model's modules are known to transformers with torch alone; what was not checked is said.
"""

import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path

from loraline.artifacts.base_model import ModelManifest
from loraline.errors import ConfigurationError, LoralineError, ModelLoadingError
from loraline.models.config import ModelConfig
from loraline.models.config_checks import names_problems, settings_problems, support_problems, tied_problems
from loraline.models.safetensors_header import StoredTensor
from loraline.models.stored_quantization import quantization_of
from loraline.sources.settings_file import fetch_settings, read_settings
from loraline.training.config import TrainConfig

_CONFIG = "config.json"


@dataclass(frozen=True)
class Feasibility:
    """What stands against training, merging and exporting a base."""

    source: str
    problems: list[str]
    unchecked: list[str]
    """What could not be looked at here, with the reason."""

    def require(self) -> None:
        """Raise ConfigurationError with all problems, if there are any."""
        if self.problems:
            listed = "".join(f"\n- {problem}" for problem in self.problems)
            raise ConfigurationError(
                f"the base {self.source!r} cannot be trained, merged and exported with these settings:{listed}"
            )


def check_feasibility(model: ModelConfig, training: TrainConfig | None = None) -> Feasibility:
    """Look at a base's configuration and at the headers of its files.

    Args:
        model: the recipe's model section.
        training: the recipe's training section; None: the base alone is looked at.

    Raises:
        ConfigurationError: the source is none.
        ModelLoadingError: there is no such base.
        StorageError: the object store does not answer.
    """
    if model.source.startswith("scratch:"):
        return Feasibility(model.source, [], [])
    if importlib.util.find_spec("transformers") is None:
        return _check_config_alone(model, training)
    from loraline.models.folder import write_manifest
    from loraline.sources.model import fetch_config, parse_model_source

    source = parse_model_source(model.source)
    if source.gguf and (not Path(source.location).is_dir() or importlib.util.find_spec("torch") is None):
        return Feasibility(model.source, [], ["the GGUF file, which is looked at where it is fetched"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fetch_config(model.source, model.revision, folder, model.trust_remote_code)
        write_manifest(folder, ModelManifest(trust_remote_code=model.trust_remote_code))
        settings = read_settings(folder / _CONFIG)
        is_quantized = bool(source.gguf or quantization_of(settings))  # its tensors become others in load_model
        tensors, problems, unchecked = ({}, [], []) if is_quantized else _read_headers(model)
        problems += settings_problems(settings)
        unsupported = support_problems(folder, model.source)
        found, missed = ([], []) if unsupported else _layout_problems(folder, model, tensors, training)
        problems, unchecked = [*problems, *unsupported, *found], [*unchecked, *missed]
    return Feasibility(model.source, problems, unchecked)


def _check_config_alone(model: ModelConfig, training: TrainConfig | None) -> Feasibility:
    """Look at config.json without transformers."""
    missed = "the names and shapes of its tensors: it takes transformers and torch; the run's first steps look at them"
    try:
        settings = fetch_settings(model.source, model.revision)
    except (LoralineError, OSError) as error:
        return Feasibility(model.source, [], [f"the base at all, which this machine cannot read: {error}", missed])
    problems = settings_problems(settings) + (tied_problems(settings, training.target_modules) if training else [])
    return Feasibility(model.source, problems, [missed])


def _read_headers(model: ModelConfig) -> tuple[dict[str, StoredTensor], list[str], list[str]]:
    """The tensors in the base's files, or the problem with them, or why they cannot be looked at."""
    from loraline.sources.weight_headers import read_weight_headers

    try:
        return read_weight_headers(model.source, model.revision), [], []
    except ModelLoadingError as error:
        return {}, [str(error)], []
    except OSError as error:  # the Hub is away, and the configuration came from its cache
        return {}, [], [f"names and shapes of its tensors: {error}"]


def _layout_problems(
    folder: Path, model: ModelConfig, tensors: dict[str, StoredTensor], training: TrainConfig | None
) -> tuple[list[str], list[str]]:
    if importlib.util.find_spec("torch") is None:
        missed = "the model's layers against training.target_modules and the names in its files: there is no torch here"
        named = training.target_modules if training else []
        problems = tied_problems(read_settings(folder / _CONFIG), named) + names_problems(tensors, named)
        return problems, [f"{missed}; load_model and train_lora look at them before they load anything"]
    from loraline.models.layout_checks import layout_problems

    return layout_problems(folder, model.source, tensors, training, model.quantization), []
