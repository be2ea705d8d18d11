"""KFP wrapper of `check_freshness`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def check_freshness(settings: str) -> str:
    """Tell whether recipe, data or base model changed since the champion: `changed` or `unchanged`."""
    import json

    from components.check_freshness.check import check
    from components.shared import progress

    with progress.step("check_freshness"):
        return check(json.loads(settings)["lineage"])
