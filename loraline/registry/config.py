"""What may be set about the registry."""

from pydantic import Field

from loraline.config import StepConfig


class RegistryConfig(StepConfig):
    """Where a promoted model goes."""

    model_name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the registered model in MLflow."""
    bucket: str = Field(default="loraline", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    """S3 bucket for models and checkpoints. It is made where it does not exist."""
