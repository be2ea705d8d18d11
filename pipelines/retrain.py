"""The retraining pipeline: the fine-tuning DAG, run only if the recipe, the data or the base model changed."""

from typing import Any

from kfp import dsl

from components.check_freshness.component import check_freshness
from components.resolve_recipe.component import resolve_recipe
from pipelines.finetune import tune
from pipelines.parameters import recipe_fields, takes
from pipelines.placement import SCHEDULED, PlacementConfig, place_steps


@dsl.pipeline(name="loraline-retrain")
@takes(recipe=recipe_fields(), placement=PlacementConfig.model_fields)
def retrain(recipe: dict[str, Any], placement: dict[str, Any]) -> None:
    """Fine-tune again, if the recipe, the data or the base model changed since the champion was trained.

    1. resolve_recipe validates the parameters and pins the sources.
    2. check_freshness compares their digests to the champion's. If nothing changed, the run succeeds here within
       seconds, without a GPU.
    3. All steps of the fine-tuning pipeline after resolve_recipe. The new model gets the alias challenger; the champion
       moves only when a person, or a run of the promotion pipeline, moves it.
    """
    settings = resolve_recipe(**recipe).set_caching_options(False).outputs
    news = check_freshness(settings=settings["gate"]).set_caching_options(False).output
    with dsl.If(news == "changed", name="changed"):
        tune(settings)
    place_steps(placement, priority=SCHEDULED)
