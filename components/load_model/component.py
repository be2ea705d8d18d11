"""KFP wrapper of `load_model`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.GPU, install_kfp_package=False)
def load_model(settings: str, base: dsl.Output[dsl.Model], working: dsl.Output[dsl.Model]):
    """Fetch the base, plan its memory, and quantize it where the recipe says so.

    `base` is what an adapter is merged into; `working` is what is trained and evaluated: the quantized
    weights, or, where there are none, the very same folder as `base`.
    """
    import json
    from pathlib import Path

    from loraline.models.config import FootprintConfig, ModelConfig
    from loraline.models.fetch import load
    from loraline.step import step

    told = json.loads(settings)
    footprint = FootprintConfig.model_validate(told["footprint"])
    config = ModelConfig.from_settings(settings)
    with step("load_model"):
        report = load(config, footprint, Path(base.path), Path(working.path), told["digest"])
    base.metadata["digest"] = report.digest
    if config.quantization == "none":
        working.uri = base.uri
