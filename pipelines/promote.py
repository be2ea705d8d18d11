"""The promotion pipeline: a person, or a schedule, moves a registered model's champion."""

from typing import Any

from kfp import dsl

from components.promote_model.component import promote_model
from loraline.registry.promotion_config import PromotionConfig
from pipelines.parameters import takes
from pipelines.placement import PlacementConfig, place_steps

_PLACEMENT = ("light_node_selector", "s3_secret", "mlflow_secret", "image_pull_secret")


@dsl.pipeline(name="loraline-promote")
@takes(
    promotion=PromotionConfig.model_fields,
    placement={name: PlacementConfig.model_fields[name] for name in _PLACEMENT},
)
def promote(promotion: dict[str, Any], placement: dict[str, Any]) -> None:
    """Move a registered model's champion, forward on evidence or back in one step.

    Training never moves it: a run leaves its model at the alias challenger until somebody runs this.

    1. promote_model checks that the version's evidence is whole and its files are those that were registered,
       then moves the alias and remembers the champion before.
    """
    promote_model(**promotion).set_caching_options(False)
    place_steps(placement)
