"""The memory estimate: whether a training run fits into a device's memory, before any weight is loaded."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from loraline.artifacts.base_model import ModelManifest
from loraline.errors import ModelLoadingError
from loraline.models import accelerators
from loraline.models.config import ModelConfig
from loraline.models.device import DTYPES, pick_device, pick_dtype
from loraline.models.folder import write_manifest
from loraline.models.footprint import FootprintConfig
from loraline.models.memory_changes import SuggestedChange, suggest_changes
from loraline.models.memory_items import Phase, count_adapter_parameters, memory_items
from loraline.models.meta_model import build_meta_model
from loraline.sources.model import fetch_config
from loraline.units import format_bytes


@dataclass(frozen=True)
class MemoryEstimate(Phase):
    """The memory that training needs, the memory of the device, and what to change if that is too little."""

    device: str
    """The device or accelerator."""
    parameters: int
    """Weights of the base model."""
    trainable_parameters: int
    """Weights of the adapter."""
    changes: list[SuggestedChange]
    """Changes that suffice alone, or else several combined. Empty where training fits."""

    def explain(self) -> str:
        """Why training does not fit, and what to change."""
        shares = ", ".join(f"{item.name} {format_bytes(item.size)}" for item in self.items)
        advice = "; ".join(
            f"{change.setting} would need {format_bytes(change.needed)}{'' if change.fits else ', still too much'}"
            for change in self.changes
        )
        return (
            f"training needs {format_bytes(self.needed)}, and {self.device} has {format_bytes(self.capacity)} "
            f"({shares}). What to change: {advice or 'nothing in the recipe helps; take a larger device'}"
        )


def require_memory(config: ModelConfig, footprint: FootprintConfig) -> None:
    """Estimate the memory that training needs on this machine, and refuse what does not fit.

    Args:
        config: the recipe's model section.
        footprint: the training settings that memory depends on.

    Raises:
        ModelLoadingError: it does not fit; the message says what to change. Also as `estimate_memory`.
    """
    estimate = estimate_memory(config, footprint)
    if not estimate.fits:
        raise ModelLoadingError(estimate.explain())


def estimate_memory(config: ModelConfig, footprint: FootprintConfig, accelerator: str | None = None) -> MemoryEstimate:
    """Estimate the memory that training needs, from the model's configuration alone.

    Args:
        config: the recipe's model section.
        footprint: the training settings that memory depends on.
        accelerator: a key of `accelerators.ACCELERATORS`; None: the device that would be used on this machine.

    Raises:
        ConfigurationError: the accelerator is unknown.
        ModelLoadingError: the configuration cannot be fetched, or transformers does not support it.
    """
    target = Target.of(config, accelerator)
    with fetched_config(config) as folder:
        return estimate_training(folder, config, footprint, target)


def estimate_training(
    folder: Path, config: ModelConfig, footprint: FootprintConfig, target: "Target"
) -> MemoryEstimate:
    """Estimate the memory that training needs on a device, from a folder of `fetched_config`."""
    model = build_meta_model(folder, config.source, target.dtype)
    items = memory_items(model, config, footprint)
    fits = sum(item.size for item in items) <= target.capacity
    return MemoryEstimate(
        name="training",
        items=items,
        capacity=target.capacity,
        device=target.device,
        parameters=sum(weight.numel() for weight in model.parameters()),
        trainable_parameters=count_adapter_parameters(model, footprint),
        changes=[] if fits else suggest_changes(model, config, footprint, target.capacity),
    )


@dataclass(frozen=True)
class Target:
    """The device that an estimate is for."""

    device: str
    """The device or accelerator."""
    capacity: int
    """Bytes of the device that are available."""
    dtype: torch.dtype
    """What a model computes in."""

    @property
    def is_cpu(self) -> bool:
        """Whether it is a CPU."""
        return self.device == "cpu"

    @classmethod
    def of(cls, config: ModelConfig, accelerator: str | None) -> Self:
        """A named accelerator, or this machine's device.

        Raises:
            ConfigurationError: the accelerator is unknown.
        """
        if accelerator is None:
            device = pick_device(config.device)
            return cls(str(device), accelerators.free_memory(device), pick_dtype(device, config.compute_dtype))
        dtype = (
            accelerators.named_dtype(accelerator) if config.compute_dtype == "auto" else DTYPES[config.compute_dtype]
        )
        return cls(accelerator, accelerators.named_memory(accelerator), dtype)


@contextmanager
def fetched_config(config: ModelConfig) -> Iterator[Path]:
    """A folder with a base's configuration and no weights, for `build_meta_model`.

    Raises:
        ModelLoadingError: the configuration cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fetch_config(config.source, config.revision, folder, config.trust_remote_code)
        write_manifest(folder, ModelManifest(trust_remote_code=config.trust_remote_code))
        yield folder
