"""The memory that a run needs in each of its phases: training, evaluation, and merge with its parity check."""

from dataclasses import dataclass

from loraline.evaluation.evaluation_memory import evaluation_items
from loraline.merging.merge_memory import merge_items
from loraline.models.device import DTYPES
from loraline.models.folder import load_config
from loraline.models.memory_estimate import MemoryEstimate, Target, estimate_training, fetched_config
from loraline.models.memory_items import MemoryItem, Phase
from loraline.models.meta_model import build_meta_model
from loraline.recipe import Recipe


@dataclass(frozen=True)
class MemoryPlan:
    """The memory that a run needs, phase by phase."""

    training: MemoryEstimate
    evaluation: Phase
    merge: Phase

    @property
    def phases(self) -> list[Phase]:
        """Training, evaluation and merge."""
        return [self.training, self.evaluation, self.merge]

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
    config, target = recipe.model, Target.of(recipe.model, accelerator)
    with fetched_config(config) as folder:
        training = estimate_training(folder, config, recipe.footprint(), target)
        # Each phase has a model of its own: tracing a training leaves hooks and settings behind.
        model = build_meta_model(folder, config.source, target.dtype)
        stored = DTYPES.get(str(load_config(folder).dtype).removeprefix("torch."), target.dtype)
        merged = build_meta_model(folder, config.source, stored)
    items = evaluation_items(model, config, recipe.evaluation, recipe.training.max_length, target.capacity)
    merge = Phase("merge", merge_items(merged, recipe.merge, on_cpu=target.is_cpu), target.capacity)
    if not merge.fits and not target.is_cpu:  # compared on the host's CPU then, which needs nothing of the device
        merge = Phase("merge", [MemoryItem("on the CPU", 0, "the device cannot hold the weights")], target.capacity)
    return MemoryPlan(training, Phase("evaluation", items, target.capacity), merge)
