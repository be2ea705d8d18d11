"""Verify a registered model against its evidence."""

from mlflow.entities.model_registry import ModelVersion
from pydantic import BaseModel, ConfigDict

from loraline import tracking
from loraline.evidence.schema import Check
from loraline.registry.files import Advance
from loraline.registry.verification import check_version
from loraline.registry.versions import find_version, registered_model_aliases


class Verification(BaseModel):
    """The verification of a model version."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_name: str
    version: str
    aliases: list[str]
    url: str
    """Its folder in the object store."""
    passed: bool
    """Whether every check passed."""
    checks: list[Check]
    """list of files, files, evidence, verdict, evaluated files, base, tags, bytes; only the first if it is broken."""


def verify(model: str, advance: Advance) -> Verification:
    """Verify a model version: digest all its files, recompute the verdict, and compare both with the registry.

    Nothing is changed, and no file is stored.

    Args:
        model: `models:/name/7` or `models:/name@champion`.
        advance: progress callback.

    Raises:
        ConfigurationError: `model` is not a registry address.
        StorageError: the version does not exist, or the registry or the store cannot be reached.
    """
    client = tracking.connect()
    version = find_version(client, model)
    checks = check_version(version, advance)
    aliases = registered_model_aliases(client, version.name)
    return Verification(
        model_name=version.name,
        version=str(version.version),
        aliases=_aliases_of(version, aliases),
        url=str(version.source),
        passed=all(check.passed for check in checks),
        checks=checks,
    )


def _aliases_of(version: ModelVersion, aliases: dict[str, str]) -> list[str]:
    return sorted(alias for alias, number in aliases.items() if str(number) == str(version.version))
