"""Turn a recipe into each step's settings, with everything pinned that could change behind its name."""

import importlib.util
from typing import NamedTuple

from loraline import progress
from loraline.data.config import DataConfig
from loraline.evaluation.config import EvaluateConfig, check_task_folder
from loraline.evidence.lineage import Lineage, PolicyPin, SourcePin
from loraline.feasibility import check_feasibility
from loraline.identity.code import code_digest
from loraline.recipe import Recipe
from loraline.registry.champion_pin import pin_champion
from loraline.safety.policy import Policy
from loraline.safety.policy_files import load_policy
from loraline.settings import (
    EvaluateSettings,
    GateSettings,
    LoadSettings,
    MergeSettings,
    PrepareSettings,
    RegisterSettings,
    TrainSettings,
)
from loraline.sources.dataset import pin_dataset, pin_datasets
from loraline.sources.model import parse_model_source, pin_model
from loraline.sources.pin import Pin


class Settings(NamedTuple):
    """The settings of every step, as JSON text (`loraline.settings`)."""

    prepare_dataset: str
    load_model: str
    train_lora: str
    evaluate_base: str
    evaluate_tuned: str
    evaluate_champion: str
    merge_adapter: str
    gate: str
    register_model: str


def resolve(recipe: Recipe) -> Settings:
    """Pin the sources of a recipe and hand out the settings of the steps.

    KFP's cache key holds a step's image and arguments, neither the code in the image nor the bytes behind
    an address. So this step runs each time, looks at both, and passes their digests on as arguments.

    Raises:
        ConfigurationError: the policy is not one, the folder of task files is not there, or the base cannot be
            trained, merged and exported with these settings.
        DatasetError, ModelLoadingError, StorageError: a source is not there, or training does not fit this machine.
    """
    # Read here, so that no later step depends on a file that only this one can see.
    policy = load_policy(recipe.safety.policy) if recipe.safety.policy else None
    revisions, data_digest = pin_datasets(recipe.data.addresses())
    data = recipe.data.pinned(revisions)
    model = pin_model(recipe.model.source, recipe.model.revision)
    progress.headline(f"data {data_digest[:12]}, model {model.digest[:12]}")
    _check_base(recipe, model)
    _check_memory(recipe)
    pinned = recipe.model.model_copy(update={"revision": model.revision})
    evaluation = EvaluateSettings(
        code=code_digest("evaluate_model"),
        config=recipe.evaluation,
        policy=policy,
        tasks_digest=_pin_tasks(recipe.evaluation),
        model=pinned,
        subject="base",
    )
    champion = {"subject": "champion", "champion": pin_champion(recipe.registry.model_name)}
    steps = (
        _prepare_settings(recipe, data, data_digest, model, policy),
        LoadSettings(
            code=code_digest("load_model"),
            config=pinned,
            digest=model.digest,
        ),
        TrainSettings(
            code=code_digest("train_lora"),
            config=recipe.training,
            checkpoints=f"s3://{recipe.registry.bucket}/checkpoints",
        ),
        evaluation,
        evaluation.model_copy(update={"subject": "tuned"}),
        evaluation.model_copy(update=champion),
        MergeSettings(code=code_digest("merge_adapter"), config=recipe.merge, policy=policy),
        GateSettings(
            code=code_digest("gate"),
            config=recipe.gate,
            lineage=make_lineage(recipe, data, data_digest, model, policy),
            policy=policy,
        ),
        RegisterSettings(code=code_digest("register_model"), config=recipe.registry),
    )
    return Settings(*(settings.model_dump_json() for settings in steps))


def _prepare_settings(
    recipe: Recipe, data: DataConfig, digest: str, model: Pin, policy: Policy | None
) -> PrepareSettings:
    return PrepareSettings(
        code=code_digest("prepare_dataset"),
        config=data,
        digest=digest,
        tokenizer_source=recipe.model.source,
        tokenizer_revision=model.revision,
        tokenizer_digest=model.digest,
        chat_template=recipe.model.chat_template,
        chat_template_kwargs=recipe.model.chat_template_kwargs,
        max_length=recipe.training.max_length,
        policy=policy,
    )


def _check_base(recipe: Recipe, model: Pin) -> None:
    """Refuse, before a weight is fetched, a base that cannot be trained, merged and exported with these settings."""
    found = check_feasibility(recipe.model.model_copy(update={"revision": model.revision}), recipe.training)
    found.require()
    for unchecked in found.unchecked:
        progress.note(f"not looked at here: {unchecked}")


def _check_memory(recipe: Recipe) -> None:
    """Refuse what does not fit this machine before its weights cross a network.

    Where there is no torch, as in the light image on a cluster, this cannot be determined; train_lora estimates it
    again on the machine that trains, before it loads anything.
    """
    is_here = parse_model_source(recipe.model.source).kind in ("folder", "scratch")
    if is_here or importlib.util.find_spec("torch") is None:
        return
    from loraline.models.memory_estimate import require_memory

    require_memory(recipe.model, recipe.footprint())


def _pin_tasks(config: EvaluateConfig) -> str:
    """Digest of the task files of evaluation.task_folder; empty where there is none."""
    check_task_folder(config)
    return pin_dataset(config.task_folder).digest if config.task_folder else ""


def make_lineage(recipe: Recipe, data: DataConfig, data_digest: str, model: Pin, policy: Policy | None) -> Lineage:
    """What a model will have come from.

    Args:
        recipe: the recipe.
        data: its data section, revisions pinned.
        data_digest: of the rows at all sources.
        model: the base, pinned.
        policy: the safety policy; None where there is none.
    """
    return Lineage(
        recipe=recipe.model_dump(mode="json"),
        recipe_digest=recipe.digest(),
        model_name=recipe.registry.model_name,
        general_source=data.names("general_source"),
        tasks=recipe.evaluation.tasks,
        data=SourcePin(source=data.names(), revision=data.revisions(), digest=data_digest),
        model=SourcePin(source=recipe.model.source, revision=model.revision, digest=model.digest),
        policy=PolicyPin(source=recipe.safety.policy, digest=policy.digest) if policy else None,
    )
