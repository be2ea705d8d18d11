"""The promotion pipeline: moves the champion alias of a registered model, forward or back."""

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
    """Promote a registered model to champion if its evidence passes, or roll back to the previous champion.

    Training never moves the champion: a run leaves its model at the alias challenger until this pipeline is run.

    1. promote_model verifies the version's evidence and the digests of its files, then moves the alias and records
       the previous champion.
    """
    promote_model(**promotion).set_caching_options(False)
    place_steps(placement)
