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
    from pathlib import Path

    from loraline.merging.merge import merge
    from loraline.safety.policy_files import write_policy
    from loraline.settings import MergeSettings
    from loraline.step import step

    with step("merge_adapter"):
        parsed = MergeSettings.parse(settings)
        report = merge(parsed.config, *(Path(artifact.path) for artifact in (base, adapter, dataset, merged)))
        if parsed.policy:
            write_policy(parsed.policy, Path(merged.path))
        report.save(Path(parity.path))
