"""The memory that a run needs in each of its phases: training, evaluation, and merge with its parity check."""

from dataclasses import dataclass

from loraline.evaluation.evaluation_memory import evaluation_items
from loraline.merging.merge_memory import merge_items
from loraline.models.device import DTYPES
from loraline.models.memory_estimate import MemoryEstimate, Target, estimate_training, load_meta_model
from loraline.models.memory_items import MemoryItem
from loraline.recipe import Recipe


@dataclass(frozen=True)
class Phase:
    """A phase of a run, and the memory that it needs on the device."""

    name: str
    items: list[MemoryItem]
    capacity: int
    """Bytes that the device has."""

    @property
    def needed(self) -> int:
        """Bytes in all."""
        return sum(item.size for item in self.items)

    @property
    def fits(self) -> bool:
        """Whether the device has as much."""
        return self.needed <= self.capacity


@dataclass(frozen=True)
class MemoryPlan:
    """The memory that a run needs, phase by phase."""

    training: MemoryEstimate
    phases: list[Phase]
    """Training, evaluation and merge."""

    @property
    def worst(self) -> Phase:
        """The phase that needs the most."""
        return max(self.phases, key=lambda phase: phase.needed)

    @property
    def fits(self) -> bool:
        """Whether every phase fits the device."""
        return all(phase.fits for phase in self.phases)


def plan_memory(recipe: Recipe, accelerator: str | None = None) -> MemoryPlan:
    """Plan the memory of a run from the model's configuration alone.

    Args:
        recipe: the recipe.
        accelerator: a key of `accelerators.ACCELERATORS`; None: the device that would be used on this machine.

    Raises:
        ConfigurationError: the accelerator is unknown.
        ModelLoadingError: the configuration cannot be fetched, or transformers does not support it.
    """
    target = Target.of(recipe.model, accelerator)
    training = estimate_training(load_meta_model(recipe.model, target.dtype), recipe.model, recipe.footprint(), target)
    phases = [Phase("training", training.items, target.capacity)]
    model = load_meta_model(recipe.model, target.dtype)  # anew: tracing a training leaves hooks and settings behind
    items = evaluation_items(model, recipe.model, recipe.evaluation, recipe.training.max_length, target.capacity)
    phases.append(Phase("evaluation", items, target.capacity))
    stored = DTYPES.get(str(model.config.dtype).removeprefix("torch."), target.dtype)
    merged = load_meta_model(recipe.model, stored)
    merge = Phase("merge", merge_items(merged, recipe.merge, on_cpu=target.is_cpu), target.capacity)
    if not merge.fits and not target.is_cpu:  # compared on the host's CPU then, which needs nothing of the device
        merge = Phase("merge", [MemoryItem("on the CPU", 0, "the device cannot hold the weights")], target.capacity)
    return MemoryPlan(training, [*phases, merge])
