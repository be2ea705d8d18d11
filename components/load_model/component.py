"""KFP wrapper of `load_model`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.GPU, install_kfp_package=False)
def load_model(settings: str, base: dsl.Output[dsl.Model], working: dsl.Output[dsl.Model]):
    """Fetch the base, and quantize it where the recipe says so.

    `base` is what an adapter is merged into; `working` is what is trained and evaluated: the quantized
    weights, or, where there are none, the very same folder as `base`.
    """
    from pathlib import Path

    from loraline.models.fetch import fetch_base
    from loraline.settings import LoadSettings
    from loraline.step import step

    with step("load_model"):
        parsed = LoadSettings.parse(settings)
        manifest = fetch_base(parsed.config, Path(base.path), Path(working.path), parsed.digest)
    base.metadata["digest"] = manifest.digest
    if parsed.config.quantization == "none":
        working.uri = base.uri
