"""The recipe: every step's settings together, as people write them and as KFP's form asks for them."""

from pydantic import Field

from components.evaluate_model.config import EvaluateConfig
from components.gate.config import GateConfig
from components.load_model.config import ModelConfig
from components.merge_adapter.config import MergeConfig
from components.prepare_dataset.config import DataConfig
from components.register_model.config import RegistryConfig
from components.shared.config import StepConfig
from components.train_lora.config import TrainConfig


class Recipe(StepConfig):
    """One fine-tuning, whole."""

    data: DataConfig
    """Where rows come from and which of them are used."""
    model: ModelConfig
    """Which base model, and how it is held in memory."""
    training: TrainConfig = TrainConfig()
    """The adapter, the optimizer and the schedule."""
    evaluation: EvaluateConfig = EvaluateConfig()
    """How many examples are scored, and how answers are generated."""
    merge: MergeConfig = MergeConfig()
    """How the merged model is written, and how far it may be from the adapter on its base."""
    gate: GateConfig = GateConfig()
    """What the tuned model must achieve over its base to be promoted."""
    registry: RegistryConfig
    """Where a promoted model goes."""
