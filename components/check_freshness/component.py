"""KFP wrapper of `check_freshness`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def check_freshness(settings: str) -> str:
    """Tell whether recipe, data or base model changed since the champion: `changed` or `unchanged`."""
    from loraline.registry.freshness import check
    from loraline.settings import GateSettings
    from loraline.step import step

    with step("check_freshness"):
        return check(GateSettings.parse(settings).lineage)
