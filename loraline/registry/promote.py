"""Move the alias `champion`: forward on evidence, and back in one step."""

import math
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from pydantic import ValidationError as PydanticError

from loraline import progress, tracking
from loraline.errors import ConfigurationError, StorageError, ValidationError
from loraline.registry.promotion_config import PromotionConfig
from loraline.registry.tags import VERDICT_TAG
from loraline.registry.verification import require_proof
from loraline.registry.versions import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    errors_named,
    registered_model_aliases,
    version_with_alias,
)

_MIB = 1 << 20


@dataclass(frozen=True)
class Promotion:
    """How the champion changed."""

    model_name: str
    version: str
    """The champion now."""
    previous: str | None
    """The champion before, if there was one."""
    source: str
    """Where the champion's files are."""


def carry_out(model_name: str, action: str = "promote", version: str = "") -> Promotion:
    """Promote a version (empty: the challenger) or roll back, as `action` says.

    Raises:
        ConfigurationError: there is no such action, or a version is named to roll back to.
        ValidationError, StorageError: as `promote` and `rollback`.
    """
    try:
        config = PromotionConfig.model_validate({"model_name": model_name, "action": action, "version": version})
    except PydanticError as error:
        problems = [f"{one['loc'][0]} = {one['input']!r}: {one['msg']}" for one in error.errors()]
        raise ConfigurationError("; ".join(problems)) from error
    if config.action == "promote":
        return promote(config.model_name, config.version or None)
    if config.version:
        raise ConfigurationError(
            f"version = {config.version!r}: a rollback goes to the champion before this one and takes no version; "
            "to have another, promote it"
        )
    return rollback(config.model_name)


def promote(model_name: str, version: str | None = None) -> Promotion:
    """Make the challenger the champion, or the version that is named; remember the champion before it.

    Before the alias moves, every check of `require_proof` is made: all files are read, and none is kept.

    Raises:
        ValidationError: the version's tags do not say promote; its files or its evidence are incomplete, altered or
            of another model; or it is the champion already.
        StorageError: there is no such model or version, or the registry or the store is away.
    """
    client = tracking.connect()
    chosen = _chosen(client, model_name, version)
    champion = version_with_alias(client, model_name, CHAMPION)
    if champion and str(champion.version) == str(chosen.version):
        raise ValidationError(f"version {chosen.version} of {model_name} is the champion already")
    _check(chosen)
    with errors_named(f"moving the champion of {model_name}"):
        # The way back is laid first: whatever stops us, a champion that is replaced can be put back.
        if champion:
            client.set_registered_model_alias(model_name, PREVIOUS, champion.version)
        client.set_registered_model_alias(model_name, CHAMPION, chosen.version)
    return _told(model_name, chosen, champion)


def rollback(model_name: str) -> Promotion:
    """Make the champion before this one the champion again.

    Raises:
        ValidationError: no champion was replaced, or the last rollback used it up.
        StorageError: there is no such model, or the registry is away.
    """
    client = tracking.connect()
    champion = version_with_alias(client, model_name, CHAMPION)
    previous = version_with_alias(client, model_name, PREVIOUS)
    if previous is None or (champion and str(champion.version) == str(previous.version)):
        now = f"version {champion.version} is its champion" if champion else "it has no champion"
        raise ValidationError(
            f"{model_name} has nothing to roll back to: {now}, and none before it is remembered. "
            "Name a version to promote instead."
        )
    with errors_named(f"moving the champion of {model_name}"):
        client.set_registered_model_alias(model_name, CHAMPION, previous.version)
        client.delete_registered_model_alias(model_name, PREVIOUS)
    return _told(model_name, previous, champion)


def _chosen(client: MlflowClient, model_name: str, version: str | None) -> ModelVersion:
    aliases = registered_model_aliases(client, model_name)
    if version is None and CHALLENGER not in aliases:
        raise StorageError(
            f"{model_name} has no version with the alias {CHALLENGER}; a run that is promoted makes one, "
            "or name a version"
        )
    number = version or aliases[CHALLENGER]
    with errors_named(f"reading version {number} of {model_name}"):
        return client.get_model_version(model_name, number)


def _check(chosen: ModelVersion) -> None:
    verdict = chosen.tags.get(VERDICT_TAG)
    if verdict != "promote":
        raise ValidationError(
            f"version {chosen.version} of {chosen.name} has the tag {VERDICT_TAG}={verdict!r}, not 'promote': "
            "no model becomes champion without proof"
        )
    require_proof(chosen, _advance)


def _advance(done: int, total: int) -> None:
    all_of_it = math.ceil(total / _MIB)
    progress.advance(all_of_it if done == total else done // _MIB, all_of_it, "MiB verified")


def _told(model_name: str, now: ModelVersion, before: ModelVersion | None) -> Promotion:
    was = f", it was version {before.version}" if before else ""
    progress.headline(f"{model_name}@{CHAMPION} is version {now.version}{was}")
    return Promotion(model_name, str(now.version), str(before.version) if before else None, str(now.source))
