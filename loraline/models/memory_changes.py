"""Changes of a recipe that would make training fit into a device's memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from loraline.models.config import ModelConfig
from loraline.models.footprint import FootprintConfig
from loraline.models.memory_items import memory_items

_LOW_RANK = 8
_SHORTEST_TO_HALVE = 256  # tokens

Settings = dict[str, Any]
"""Values by their names in a recipe, such as `training.rank`."""


@dataclass(frozen=True)
class SuggestedChange:
    """One or more settings to change, and what training would need then."""

    setting: str
    """As overrides of a recipe: `training.batch_size=1`."""
    needed: int
    """Bytes."""
    fits: bool


def suggest_changes(
    model: PreTrainedModel, config: ModelConfig, footprint: FootprintConfig, capacity: int
) -> list[SuggestedChange]:
    """List the changes that suffice alone; if none does, several combined.

    Args:
        model: on the meta device, in the dtype that it runs in.
        config: the recipe's model section.
        footprint: the training settings that memory depends on.
        capacity: bytes that the device has.
    """
    candidates = dict(_candidates(config, footprint))
    needed = {name: _needed(model, config, footprint, {name: value}) for name, value in candidates.items()}
    sufficient = [name for name in candidates if needed[name] <= capacity]
    if sufficient or not candidates:
        return [SuggestedChange(_overrides({name: candidates[name]}), needed[name], True) for name in sufficient]
    return [_combine(model, config, footprint, capacity)]


def _combine(model: PreTrainedModel, config: ModelConfig, footprint: FootprintConfig, capacity: int) -> SuggestedChange:
    """Add one candidate after the other, if it saves memory on top of those before, until training fits."""
    settings: Settings = {}
    needed = _needed(model, config, footprint, settings)
    for name, value in _candidates(config, footprint):
        if needed > capacity:
            with_this = _needed(model, config, footprint, {**settings, name: value})
            if with_this < needed:
                settings, needed = {**settings, name: value}, with_this
    return SuggestedChange(_overrides(settings), needed, needed <= capacity)


def _candidates(config: ModelConfig, footprint: FootprintConfig) -> Iterator[tuple[str, Any]]:
    """Settings that save memory; those that change the trained model least come first."""
    if not footprint.gradient_checkpointing:
        yield "training.gradient_checkpointing", True
    if footprint.batch_size > 1:
        yield "training.batch_size", 1
    if config.quantization != "nf4":
        yield "model.quantization", "nf4"
    if footprint.rank > _LOW_RANK:
        yield "training.rank", _LOW_RANK
    if footprint.max_length >= _SHORTEST_TO_HALVE:
        yield "training.max_length", footprint.max_length // 2


def _needed(model: PreTrainedModel, config: ModelConfig, footprint: FootprintConfig, settings: Settings) -> int:
    """Bytes that training needs with some settings changed."""
    by_section: dict[str, Settings] = {"model": {}, "training": {}}
    for name, value in settings.items():
        section, field = name.split(".")
        by_section[section][field] = value
    changed = config.model_copy(update=by_section["model"]), footprint.model_copy(update=by_section["training"])
    return sum(item.size for item in memory_items(model, *changed))


def _overrides(settings: Settings) -> str:
    return " ".join(f"{name}={str(value).lower()}" for name, value in settings.items())
