"""KFP wrapper of `merge_adapter`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.GPU, install_kfp_package=False)
def merge_adapter(
    settings: str,
    base: dsl.Input[dsl.Model],
    adapter: dsl.Input[dsl.Model],
    dataset: dsl.Input[dsl.Dataset],
    merged: dsl.Output[dsl.Model],
    parity: dsl.Output[dsl.Artifact],
):
    """Merge the adapter into the 16-bit base, and compare both on held-out rows."""
    import json
    import shutil
    from pathlib import Path

    from loraline.merging.config import MergeConfig
    from loraline.merging.merge import merge
    from loraline.safety import Policy, write_policy
    from loraline.step import step

    with step("merge_adapter"):
        merge(
            MergeConfig.from_settings(settings),
            Path(base.path),
            Path(adapter.path),
            Path(dataset.path),
            Path(merged.path),
        )
        if policy := Policy.of(json.loads(settings).get("policy")):
            write_policy(policy, Path(merged.path))
        Path(parity.path).mkdir(parents=True)
        shutil.copy(Path(merged.path) / "parity.json", parity.path)
