"""KFP wrapper of `promote_model`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def promote_model(model_name: str, action: str, version: str) -> str:
    """Move the champion forward on evidence, or back; gives the version that is the champion now."""
    from loraline.registry.promote import carry_out
    from loraline.step import step

    with step("promote_model"):
        return carry_out(model_name, action, version).version
