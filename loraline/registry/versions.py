"""Find model versions in MLflow's registry by alias, by number or by name."""

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
"""The version in production."""
PREVIOUS = "previous"
"""The champion before the current one."""


@contextmanager
def errors_named(operation: str) -> Iterator[None]:
    """Raise MLflow's errors as StorageError, with the operation that failed.

    Raises:
        StorageError: MLflow cannot be reached or refuses.
    """
    try:
        yield
    except MlflowException as error:
        first_line = str(error).strip().split("\n")[0][:300]
        raise StorageError(f"{operation} failed at {tracking.tracking_uri()}: {first_line}") from error


def find_version(client: MlflowClient, address: str) -> ModelVersion:
    """Find the version at `models:/name/7` or `models:/name@alias`.

    Raises:
        ConfigurationError: it is not an address of the model registry.
        StorageError: the model, version or alias does not exist, or the registry cannot be reached.
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
    """The version with an alias; None without one.

    Raises:
        StorageError: the model does not exist.
    """
    aliases = {key: str(value) for key, value in registered_model_aliases(client, name).items()}
    if alias not in aliases:
        return None
    with errors_named(f"reading version {aliases[alias]} of {name}"):
        return client.get_model_version(name, aliases[alias])


def find_champion(client: MlflowClient, name: str) -> ModelVersion | None:
    """The champion of a registered model; None if the model does not exist or has no champion.

    Raises:
        StorageError: MLflow cannot be reached.
    """
    with errors_named(f"looking for the registered model {name}"):
        if not client.search_registered_models(f"name = '{name}'"):
            return None
    return version_with_alias(client, name, CHAMPION)


def registered_model_aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """The version number of each alias.

    Raises:
        StorageError: the model does not exist, or MLflow cannot be reached.
    """
    try:
        return dict(client.get_registered_model(name).aliases)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            with errors_named(f"reading the registered model {name}"):
                raise
        raise StorageError(
            f"there is no registered model {name!r} at {tracking.tracking_uri()}; a run that passes the gate creates it"
        ) from error
