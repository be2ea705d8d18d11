"""KFP wrapper of `register_model`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def register_model(
    settings: str,
    adapter: dsl.Input[dsl.Model],
    merged: dsl.Input[dsl.Model],
    evidence: dsl.Input[dsl.Artifact],
    registration: dsl.Output[dsl.Artifact],
):
    """Put model and evidence into the store, then the version, its tags and its alias into the registry."""
    from pathlib import Path

    from loraline.registry.register import register
    from loraline.settings import RegisterSettings
    from loraline.step import step

    with step("register_model"):
        folders = [Path(artifact.path) for artifact in (adapter, merged, evidence, registration)]
        register(RegisterSettings.parse(settings).config, *folders)
