"""Addresses of models in MLflow's registry: `models:/name/7` and `models:/name@alias`."""

import re
from dataclasses import dataclass
from typing import Self

from loraline.errors import ConfigurationError

SCHEME = "models:"
_ADDRESS = re.compile(rf"{SCHEME}/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class RegistryAddress:
    """A registered model with either a version or an alias; the other is empty."""

    name: str
    version: str
    alias: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an address.

        Raises:
            ConfigurationError: it is not an address of the model registry.
        """
        match = _ADDRESS.fullmatch(text)
        if not match:
            raise ConfigurationError(
                f"{text!r} is not an address of the model registry; write models:/name/version or models:/name@alias"
            )
        return cls(match["name"], match["version"] or "", match["alias"] or "")

    @staticmethod
    def matches(text: str) -> bool:
        """Whether a source names the model registry; `parse` tells whether it is well formed."""
        return text.startswith(SCHEME)

    def __str__(self) -> str:
        return f"{SCHEME}/{self.name}" + (f"/{self.version}" if self.version else f"@{self.alias}")
