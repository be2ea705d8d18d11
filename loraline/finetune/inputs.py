"""What the phases read: the base model and the rows, each fetched or prepared once and kept."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraline.config import StepConfig
from loraline.data.config import DataConfig
from loraline.finetune.workspace import Workspace
from loraline.identity.digests import cache_folder
from loraline.identity.step_identity import step_identity
from loraline.models.config import ModelConfig
from loraline.progress_display import shown
from loraline.recipe import Recipe
from loraline.safety.policy import Policy
from loraline.safety.policy_files import load_policy
from loraline.sources.dataset import pin_datasets
from loraline.sources.model import fetch_tokenizer, pin_model
from loraline.sources.pin import Pin


@dataclass(frozen=True)
class CachedBase:
    """A base model on this machine."""

    full: Path
    """Its folder in 16 or 32 bit: what an adapter is merged into."""
    working: Path
    """What is trained and evaluated: the quantized folder, or the same."""
    pin: Pin


def step_key(step: str, config: StepConfig, **exclude: Any) -> list[Any]:
    """What a step's result depends on beside its inputs: its settings, its code, the libraries that compute in it."""
    return [config.model_dump(mode="json", **exclude), step_identity(step).digest]


def cached_base(recipe: Recipe) -> CachedBase:
    """Fetch a base model into the cache that all jobs share, and quantize it where the settings say so.

    Raises:
        ConfigurationError: it cannot be trained and merged with these settings.
        ModelLoadingError: it does not fit, cannot be had, or is not complete.
        StorageError: the object store is away or refuses.
    """
    pin = pin_model(recipe.model.source, recipe.model.revision)
    config = recipe.model.model_copy(update={"revision": pin.revision})
    cache = Workspace(cache_folder() / "models")
    folder = cache.path(_short_name(config), *step_key("load_model", config), pin.digest)
    if not folder.exists():
        with shown("fetch model"):
            from loraline.feasibility import check_feasibility
            from loraline.models.fetch import fetch_base

            check_feasibility(config, recipe.training).require()
            cache.result(folder, lambda new: fetch_base(config, new / "base", new / "quantized", pin.digest))
    full, quantized = folder / "base", folder / "quantized"
    return CachedBase(full, quantized if config.quantization != "none" else full, pin)


def _short_name(config: ModelConfig) -> str:
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in Path(config.source).name) or "model"


def policy_of(recipe: Recipe) -> Policy | None:
    """The safety policy that a recipe names."""
    return load_policy(recipe.safety.policy) if recipe.safety.policy else None


@dataclass(frozen=True)
class PreparedRows:
    """Rows that were prepared."""

    folder: Path
    config: DataConfig
    """Revisions are pinned."""
    digest: str
    """Of the rows at their sources."""


def prepare_rows(recipe: Recipe, workspace: Workspace, evaluation_only: bool = False) -> PreparedRows:
    """Prepare the rows of a recipe's sources, or only an evaluation set of all rows of its first source.

    Raises:
        DatasetError: rows cannot be read, or more are bad than allowed.
        ModelLoadingError: the tokenizer cannot be had.
        StorageError: the object store is away or refuses.
    """
    revisions, digest = pin_datasets(recipe.data.addresses())
    config = recipe.data.pinned(revisions)
    tokenizer = pin_model(recipe.model.source, recipe.model.revision)
    policy = policy_of(recipe)
    length = None if evaluation_only else recipe.training.max_length
    folder = workspace.path(
        "evaluation-rows" if evaluation_only else "data",
        *step_key("prepare_dataset", config),
        digest,
        [tokenizer.digest, length, policy and policy.model_dump(mode="json")],
        [recipe.model.chat_template, recipe.model.chat_template_kwargs],
    )
    if not folder.exists():
        with shown("prepare rows"):
            workspace.result(folder, lambda new: _prepare(recipe, config, tokenizer, policy, new, evaluation_only))
    return PreparedRows(folder, config, digest)


def prepare_into(recipe: Recipe, output: Path, evaluation_only: bool = False) -> None:
    """Prepare rows as `prepare_rows` does, into a folder. Raises the same."""
    revisions, _ = pin_datasets(recipe.data.addresses())
    config = recipe.data.pinned(revisions)
    tokenizer = pin_model(recipe.model.source, recipe.model.revision)
    with shown("prepare rows"):
        _prepare(recipe, config, tokenizer, policy_of(recipe), output, evaluation_only)


def _prepare(
    recipe: Recipe, config: DataConfig, tokenizer: Pin, policy: Policy | None, output: Path, evaluation_only: bool
) -> None:
    from loraline.data.prepare import prepare, prepare_evaluation_set
    from loraline.models.chat_settings import write_chat_settings

    with tempfile.TemporaryDirectory() as folder:
        fetch_tokenizer(recipe.model.source, tokenizer.revision, Path(folder))
        write_chat_settings(Path(folder), recipe.model.chat_template, recipe.model.chat_template_kwargs)
        if evaluation_only:
            prepare_evaluation_set(config, Path(folder), output, policy)
        else:
            prepare(config, Path(folder), output, recipe.training.max_length, policy)
