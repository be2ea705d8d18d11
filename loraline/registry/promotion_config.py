"""What may be set about a promotion."""

from typing import Literal

from pydantic import Field

from loraline.config import StepConfig


class PromotionConfig(StepConfig):
    """Which model's champion moves, and which way."""

    model_name: str = Field(min_length=1)
    """Name of the registered model in MLflow."""
    action: Literal["promote", "rollback"] = "promote"
    """promote: a version becomes the champion. rollback: the champion before it does again."""
    version: str = ""
    """The version to promote. Empty: the challenger."""
