"""KFP wrapper of `check_freshness`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def check_freshness(settings: str) -> str:
    """Tell whether recipe, data or base model changed since the champion: `changed` or `unchanged`."""
    import json

    from loraline.evidence.lineage import Lineage
    from loraline.registry.freshness import check
    from loraline.step import step

    with step("check_freshness"):
        return check(Lineage.model_validate(json.loads(settings)["lineage"]))
