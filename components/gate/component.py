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
    import json
    from pathlib import Path

    from loraline.evidence.lineage import Lineage
    from loraline.gate.config import GateConfig
    from loraline.gate.judge import judge
    from loraline.safety import Policy
    from loraline.step import step

    told = json.loads(settings)
    with step("gate"):
        return judge(
            GateConfig.from_settings(settings),
            Lineage.model_validate(told["lineage"]),
            Policy.of(told["policy"]),
            dataset=Path(dataset.path),
            base=Path(base.path),
            tuned=Path(tuned.path),
            champion=Path(champion.path),
            adapter=Path(adapter.path),
            parity=Path(parity.path),
            output=Path(evidence.path),
        )
