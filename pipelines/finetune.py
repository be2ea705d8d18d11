"""The fine-tuning pipeline: the DAG and nothing but the DAG."""

from collections.abc import Mapping
from typing import Any

from kfp import dsl

from components.evaluate_model.component import evaluate_model
from components.gate.component import gate
from components.load_model.component import load_model
from components.merge_adapter.component import merge_adapter
from components.prepare_dataset.component import prepare_dataset
from components.register_model.component import register_model
from components.report.component import report
from components.resolve_recipe.component import resolve_recipe
from components.train_lora.component import train_lora
from pipelines.parameters import recipe_fields, takes
from pipelines.placement import PlacementConfig, place_steps


def tune(settings: Mapping[str, Any]) -> None:
    """Add steps 2 to 11 of `finetune` to the pipeline that is being built.

    Args:
        settings: outputs of resolve_recipe, each the settings of the step of its name.
    """
    dataset = prepare_dataset(settings=settings["prepare_dataset"]).outputs["dataset"]
    model = load_model(settings=settings["load_model"]).outputs
    base = evaluate_model(settings=settings["evaluate_base"], dataset=dataset, model=model["base"])
    base.set_display_name("evaluate base")
    champion = evaluate_model(settings=settings["evaluate_champion"], dataset=dataset)
    champion.set_display_name("evaluate champion")
    adapter = train_lora(settings=settings["train_lora"], model=model["working"], dataset=dataset).outputs["adapter"]
    merge = merge_adapter(
        settings=settings["merge_adapter"], base=model["base"], adapter=adapter, dataset=dataset
    ).outputs
    tuned = evaluate_model(settings=settings["evaluate_tuned"], dataset=dataset, model=merge["merged"])
    tuned.set_display_name("evaluate tuned")
    verdict = gate(
        settings=settings["gate"],
        dataset=dataset,
        base=base.outputs["evaluation"],
        tuned=tuned.outputs["evaluation"],
        champion=champion.outputs["evaluation"],
        adapter=adapter,
        parity=merge["parity"],
    ).outputs
    with dsl.If(verdict["Output"] == "promote", name="promote"):
        registration = register_model(
            settings=settings["register_model"],
            adapter=adapter,
            merged=merge["merged"],
            evidence=verdict["evidence"],
        ).outputs["registration"]
        report(evidence=verdict["evidence"], registration=registration).set_caching_options(False)
    with dsl.Else(name="reject"):
        report(evidence=verdict["evidence"]).set_caching_options(False)


@dsl.pipeline(name="loraline-finetune")
@takes(recipe=recipe_fields(), placement=PlacementConfig.model_fields)
def finetune(recipe: dict[str, Any], placement: dict[str, Any]) -> None:
    """Fine-tune a language model with LoRA or QLoRA, and promote it on evidence.

    1. resolve_recipe validates the parameters and pins the sources. It always runs; the rest is cached.
    2. prepare_dataset validates, screens, cleans, splits, compares and fingerprints the rows.
    3. load_model fetches the base, plans its memory and quantizes it.
    4. evaluate_model scores the base.
    5. evaluate_model scores the champion, where there is one, on the same examples.
    6. train_lora trains an adapter.
    7. merge_adapter merges the adapter into the 16-bit base and compares the two.
    8. evaluate_model scores the merged model, which is what is registered, on the same examples.
    9. gate weighs the evidence: promote or reject.
    10. register_model, on promote only, stores model and evidence and makes the version and its alias.
    11. report shows the whole run on one page.
    """
    settings = resolve_recipe(**recipe).set_caching_options(False).outputs
    tune(settings)
    place_steps(placement)
