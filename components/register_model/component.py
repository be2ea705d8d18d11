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

    from loraline.registry.config import RegistryConfig
    from loraline.registry.register import register
    from loraline.step import step

    with step("register_model"):
        register(
            RegistryConfig.from_settings(settings),
            adapter=Path(adapter.path),
            merged=Path(merged.path),
            evidence=Path(evidence.path),
            output=Path(registration.path),
        )
