"""KFP wrapper of `gate`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def gate(
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    base: dsl.Input[dsl.Artifact],
    tuned: dsl.Input[dsl.Artifact],
    champion: dsl.Input[dsl.Artifact],
    adapter: dsl.Input[dsl.Model],
    parity: dsl.Input[dsl.Artifact],
    evidence: dsl.Output[dsl.Artifact],
) -> str:
    """Weigh the evidence: `promote` or `reject`, with the reasons."""
    from pathlib import Path

    from loraline.gate.judge import judge
    from loraline.settings import GateSettings
    from loraline.step import step

    with step("gate"):
        parsed = GateSettings.parse(settings)
        folders = [Path(artifact.path) for artifact in (dataset, base, tuned, champion, adapter, parity, evidence)]
        return judge(parsed.config, parsed.lineage, parsed.policy, *folders)
