"""Model versions in MLflow's registry, found by alias, by number or by name."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from loraline import tracking
from loraline.errors import StorageError
from loraline.sources.registry_address import RegistryAddress

CHALLENGER = "challenger"
"""The newest version that passed the gate."""
CHAMPION = "champion"
"""The version that is in use."""
PREVIOUS = "previous"
"""The version that was the champion before."""


@contextmanager
def errors_named(what: str) -> Iterator[None]:
    """Turn MLflow's errors into ours.

    Raises:
        StorageError: MLflow is away, or refuses.
    """
    try:
        yield
    except MlflowException as error:
        first_line = str(error).strip().split("\n")[0][:300]
        raise StorageError(f"{what} failed at {tracking.tracking_uri()}: {first_line}") from error


def find_version(client: MlflowClient, address: str) -> ModelVersion:
    """The version that `models:/name/7` or `models:/name@alias` names.

    Raises:
        ConfigurationError: it is not an address of the model registry.
        StorageError: there is no such model, version or alias, or the registry is away.
    """
    parsed = RegistryAddress.parse(address)
    name = parsed.name
    if parsed.version:
        registered_model_aliases(client, name)
        with errors_named(f"reading version {parsed.version} of {name}"):
            return client.get_model_version(name, parsed.version)
    found = version_with_alias(client, name, parsed.alias)
    if found is None:
        aliases = ", ".join(f"@{key}" for key in sorted(registered_model_aliases(client, name))) or "none"
        raise StorageError(f"{name} has no version with the alias {parsed.alias}; its aliases: {aliases}")
    return found


def version_with_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version that an alias points at, if there is one.

    Raises:
        StorageError: there is no such model.
    """
    aliases = {key: str(value) for key, value in registered_model_aliases(client, name).items()}
    if alias not in aliases:
        return None
    with errors_named(f"reading version {aliases[alias]} of {name}"):
        return client.get_model_version(name, aliases[alias])


def find_champion(client: MlflowClient, name: str) -> ModelVersion | None:
    """The champion of a registered model; None where there is no such model, or no champion of it.

    Raises:
        StorageError: MLflow is away.
    """
    with errors_named(f"looking for the registered model {name}"):
        if not client.search_registered_models(f"name = '{name}'"):
            return None
    return version_with_alias(client, name, CHAMPION)


def registered_model_aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Alias to version number.

    Raises:
        StorageError: there is no such model, or MLflow is away.
    """
    try:
        return dict(client.get_registered_model(name).aliases)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            with errors_named(f"reading the registered model {name}"):
                raise
        raise StorageError(
            f"there is no registered model {name!r} at {tracking.tracking_uri()}; a run that is promoted makes it"
        ) from error
