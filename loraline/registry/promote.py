"""Move the `champion` alias: promote a version with valid evidence, or roll back."""

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
    """A change of the champion."""

    model_name: str
    version: str
    """The new champion."""
    previous: str | None
    """The previous champion, if any."""
    source: str
    """URL of the new champion's files."""


def carry_out(model_name: str, action: str = "promote", version: str = "") -> Promotion:
    """Promote a version (empty: the challenger) or roll back, depending on `action`.

    Raises:
        ConfigurationError: the action is unknown, or a version is given for a rollback.
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
            f"version = {config.version!r}: a rollback restores the previous champion and takes no version; "
            "promote a version to make it the champion"
        )
    return rollback(config.model_name)


def promote(model_name: str, version: str | None = None) -> Promotion:
    """Make the challenger, or the given version, the champion; the previous champion keeps an alias for a rollback.

    The alias only moves after all checks of `require_proof`, which read every file and store none.

    Raises:
        ValidationError: the version's verdict is not promote; its files or its evidence are incomplete, altered or of
            another model; or it is the champion already.
        StorageError: the model or version does not exist, or the registry or the store cannot be reached.
    """
    client = tracking.connect()
    chosen = _chosen(client, model_name, version)
    champion = version_with_alias(client, model_name, CHAMPION)
    if champion and str(champion.version) == str(chosen.version):
        raise ValidationError(f"version {chosen.version} of {model_name} is the champion already")
    _require_verdict_and_proof(chosen)
    with errors_named(f"moving the champion of {model_name}"):
        # Set `previous` first: if this is interrupted, a replaced champion can still be restored.
        if champion:
            client.set_registered_model_alias(model_name, PREVIOUS, champion.version)
        client.set_registered_model_alias(model_name, CHAMPION, chosen.version)
    return _report(model_name, chosen, champion)


def rollback(model_name: str) -> Promotion:
    """Make the previous champion the champion again.

    Raises:
        ValidationError: there is no previous champion, or the last rollback restored it already.
        StorageError: the model does not exist, or the registry cannot be reached.
    """
    client = tracking.connect()
    champion = version_with_alias(client, model_name, CHAMPION)
    previous = version_with_alias(client, model_name, PREVIOUS)
    if previous is None or (champion and str(champion.version) == str(previous.version)):
        now = f"version {champion.version} is its champion" if champion else "it has no champion"
        raise ValidationError(
            f"{model_name} has nothing to roll back to: {now}, and there is no previous one. Promote a version instead."
        )
    with errors_named(f"moving the champion of {model_name}"):
        client.set_registered_model_alias(model_name, CHAMPION, previous.version)
        client.delete_registered_model_alias(model_name, PREVIOUS)
    return _report(model_name, previous, champion)


def _chosen(client: MlflowClient, model_name: str, version: str | None) -> ModelVersion:
    aliases = registered_model_aliases(client, model_name)
    if version is None and CHALLENGER not in aliases:
        raise StorageError(
            f"{model_name} has no version with the alias {CHALLENGER}; a run that passes the gate creates one, "
            "or give a version"
        )
    number = version or aliases[CHALLENGER]
    with errors_named(f"reading version {number} of {model_name}"):
        return client.get_model_version(model_name, number)


def _require_verdict_and_proof(chosen: ModelVersion) -> None:
    verdict = chosen.tags.get(VERDICT_TAG)
    if verdict != "promote":
        raise ValidationError(
            f"version {chosen.version} of {chosen.name} has the tag {VERDICT_TAG}={verdict!r}, not 'promote': "
            "only a version that passed the gate can become champion"
        )
    require_proof(chosen, _advance)


def _advance(done: int, total: int) -> None:
    total_mib = math.ceil(total / _MIB)
    progress.advance(total_mib if done == total else done // _MIB, total_mib, "MiB verified")


def _report(model_name: str, new: ModelVersion, old: ModelVersion | None) -> Promotion:
    previous = f", before it was version {old.version}" if old else ""
    progress.headline(f"{model_name}@{CHAMPION} is version {new.version}{previous}")
    return Promotion(model_name, str(new.version), str(old.version) if old else None, str(new.source))
