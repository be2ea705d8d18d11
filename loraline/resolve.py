"""Turn a recipe into each step's settings, with everything pinned that could change behind its name."""

import json
from typing import Any, NamedTuple

from loraline import progress
from loraline.config import StepConfig
from loraline.data.config import DataConfig
from loraline.evaluation.config import EvaluateConfig, check_task_folder
from loraline.identity.code import STEPS, code_digest
from loraline.identity.digests import json_digest
from loraline.recipe import Recipe
from loraline.registry.champion import pin_champion
from loraline.safety import load_policy
from loraline.safety.config import SafetyConfig
from loraline.sources.dataset import pin_dataset, pin_datasets
from loraline.sources.model import pin_model
from loraline.sources.pin import Pin


class Settings(NamedTuple):
    """What each step is told, as JSON text. It is all that KFP's cache sees of a recipe.

    Each text holds `config` (the step's own section, with revisions pinned), `code` (the digest of the
    code that the step runs) and, beside them, digests of the sources it reads and what else it must know.
    """

    prepare_dataset: str
    load_model: str
    train_lora: str
    evaluate_model: str
    evaluate_champion: str
    merge_adapter: str
    gate: str
    register_model: str


def resolve(recipe: Recipe) -> Settings:
    """Pin the sources of a recipe and hand out the settings of the steps.

    KFP's cache key holds a step's image and arguments, neither the code in the image nor the bytes behind
    an address. So this step runs each time, looks at both, and passes their digests on as arguments.

    Raises:
        ConfigurationError: the policy is not one, or the folder of task files is not there.
        DatasetError, ModelLoadingError, StorageError: a source is not there.
    """
    policy = _policy(recipe.safety)
    revisions, data_digest = pin_datasets(recipe.data.sources())
    data = recipe.data.model_copy(update=revisions)
    model = pin_model(recipe.model.source, recipe.model.revision)
    tokenizer = {"source": recipe.model.source, "revision": model.revision, "digest": model.digest}
    progress.headline(f"data {data_digest[:12]}, model {model.digest[:12]}")
    tasks = _pin_tasks(recipe.evaluation)
    champion = pin_champion(recipe.registry.model_name)
    lineage = _lineage(recipe, data, data_digest, model, policy)
    return Settings(
        prepare_dataset=_settings(
            "prepare_dataset",
            data,
            digest=data_digest,
            tokenizer=tokenizer,
            max_length=recipe.training.max_length,
            policy=policy,
        ),
        load_model=_settings(
            "load_model",
            recipe.model.model_copy(update={"revision": model.revision}),
            digest=model.digest,
            footprint=recipe.footprint().model_dump(),
        ),
        train_lora=_settings("train_lora", recipe.training, checkpoints=f"s3://{recipe.registry.bucket}/checkpoints"),
        evaluate_model=_settings("evaluate_model", recipe.evaluation, policy=policy, tasks=tasks),
        evaluate_champion=_settings("evaluate_model", recipe.evaluation, policy=policy, tasks=tasks, champion=champion),
        merge_adapter=_settings("merge_adapter", recipe.merge, policy=policy),
        gate=_settings("gate", recipe.gate, lineage=lineage, policy=policy),
        register_model=_settings("register_model", recipe.registry),
    )


def _settings(step: str, config: StepConfig, **beside: Any) -> str:
    return json.dumps({"config": config.model_dump(mode="json"), "code": code_digest(step), **beside}, sort_keys=True)


def _policy(config: SafetyConfig) -> dict[str, Any] | None:
    """The policy's content, read here, so that no later step depends on a file that only this one can see."""
    return load_policy(config.policy).model_dump(mode="json") if config.policy else None


def _pin_tasks(config: EvaluateConfig) -> str:
    """The digest of the task files of one's own; empty where there are none."""
    check_task_folder(config)
    return pin_dataset(config.task_folder).digest if config.task_folder else ""


def _lineage(
    recipe: Recipe, data: DataConfig, data_digest: str, model: Pin, policy: dict[str, Any] | None
) -> dict[str, Any]:
    """What a model came from. It goes into the evidence and onto the model version."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_digest": recipe.digest(),
        "model_name": recipe.registry.model_name,
        "general_source": recipe.data.general_source,
        "tasks": recipe.evaluation.tasks,
        "code_version": json_digest([code_digest(step) for step in STEPS]),
        "data": {"source": data.source, "revision": data.revision, "digest": data_digest},
        "model": {"source": recipe.model.source, "revision": model.revision, "digest": model.digest},
        "policy": policy and {"source": recipe.safety.policy, "digest": json_digest(policy)},
    }
