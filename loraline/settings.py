"""The settings of each step: one class for each, handed over as JSON text and parsed once.

Settings travel as text because KFP turns the integers of a dict into floats and refuses nulls. They are all that
KFP's cache sees of a recipe, so each holds the digests of what the step reads, and of the code that it runs.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from loraline.artifacts.evaluation import ChampionPin
from loraline.data.config import DataConfig
from loraline.evaluation.config import EvaluateConfig
from loraline.evidence.lineage import Lineage
from loraline.evidence.schema import EvaluatedModel
from loraline.gate.config import GateConfig
from loraline.merging.config import MergeConfig
from loraline.models.config import ModelConfig
from loraline.registry.config import RegistryConfig
from loraline.safety.policy import Policy
from loraline.training.config import TrainConfig


class StepSettings(BaseModel):
    """Settings of a step."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    code: str
    """Digest of the code that the step runs. It is there for KFP's cache key; the step itself does not read it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text that `resolve_recipe` hands to a step."""
        return cls.model_validate_json(text)


class PrepareSettings(StepSettings):
    """Settings of prepare_dataset."""

    config: DataConfig
    """Revisions of the sources are pinned."""
    digest: str
    """Of the rows at all sources, when the run began."""
    tokenizer_source: str
    """Source of the model whose tokenizer counts tokens, and the revision and digest that it is pinned to."""
    tokenizer_revision: str
    tokenizer_digest: str
    chat_template: str
    """`model.chat_template` and `model.chat_template_kwargs`, by which rows are checked and measured."""
    chat_template_kwargs: dict[str, Any]
    max_length: int
    """Tokens of a row that training reads."""
    policy: Policy | None


class LoadSettings(StepSettings):
    """Settings of load_model. No setting of the training is among them."""

    config: ModelConfig
    """Its revision is pinned."""
    digest: str
    """Of the base at its source, when the run began."""


class TrainSettings(StepSettings):
    """Settings of train_lora."""

    config: TrainConfig
    checkpoints: str
    """Address of the checkpoints of all runs."""


class EvaluateSettings(StepSettings):
    """Settings of evaluate_model."""

    config: EvaluateConfig
    policy: Policy | None
    tasks_digest: str
    """Of the task files of evaluation.task_folder; empty where there is none."""
    model: ModelConfig
    """How every model is held in memory."""
    subject: EvaluatedModel
    """base: the run's own base; tuned: its merged model; champion: the registered champion's merged model."""
    champion: ChampionPin | None = None
    """The champion to evaluate; None where there is none yet."""


class MergeSettings(StepSettings):
    """Settings of merge_adapter."""

    config: MergeConfig
    policy: Policy | None


class GateSettings(StepSettings):
    """Settings of gate."""

    config: GateConfig
    lineage: Lineage
    policy: Policy | None


class RegisterSettings(StepSettings):
    """Settings of register_model."""

    config: RegistryConfig
