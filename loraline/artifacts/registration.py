"""What register_model hands on: where a registered model is."""

from typing import ClassVar

from pydantic import Field

from loraline.artifacts.base import Report


class Registration(Report):
    """Where a registered model is."""

    FILE: ClassVar[str] = "registration.json"

    model_name: str
    version: str
    alias: str
    url: str
    """The folder in the object store, with adapter/, merged/, evidence/ and README.md."""
    digest: str
    """Content digest: over the names and bytes of the files."""
    tags: dict[str, str] = Field(default={})
    """What links the version to all that it came from."""
