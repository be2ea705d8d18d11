"""Judge a tuned model by the evidence: promote it or reject it, with the reasons in words."""

from pathlib import Path
from typing import Any

from loraline import progress
from loraline.evidence.schema import Evidence, Findings, Thresholds, VerdictName
from loraline.gate.config import GateConfig
from loraline.gate.gather import compare_ids, pair, read_champion, read_report, read_safety, read_scored
from loraline.gate.weigh import weigh
from loraline.safety import Policy


def judge(
    config: GateConfig,
    lineage: dict[str, Any],
    policy: dict[str, Any] | None,
    dataset: Path,
    base: Path,
    tuned: Path,
    champion: Path,
    adapter: Path,
    parity: Path,
    output: Path,
) -> VerdictName:
    """Weigh what the run found out; the same findings always give the same verdict.

    Whatever is missing, unreadable or not a number speaks against the model, and never ends the step: a
    reject with its reason is what people need to see. Writes verdict.json and evidence.json into `output`.

    Args:
        config: what the tuned model must achieve.
        lineage: recipe, digests and versions, as the run began with them.
        policy: content of the safety policy; None where there is none.
        dataset: folder with the dataset's report.json.
        base: folder with metrics.json and examples.jsonl of the base, and with general.jsonl and probes.jsonl
            where those were asked for.
        tuned: the same of the tuned model.
        champion: the same of the champion; where there is no champion, metrics.json says so.
        adapter: folder with training.json and mask.json.
        parity: folder with the merge's parity.json.
        output: folder to write.
    """
    examples = {side: read_scored(folder / "examples.jsonl") for side, folder in _named(base, tuned, champion)}
    general = {side: read_scored(folder / "general.jsonl") for side, folder in _named(base, tuned)}
    figures, has_champion = read_champion(champion)
    found = Findings(
        thresholds=Thresholds.model_validate(config.model_dump()),
        base=read_report(base / "metrics.json"),
        tuned=read_report(tuned / "metrics.json"),
        champion=figures,
        has_champion=has_champion,
        examples=pair(examples["base"], examples["tuned"], examples["champion"] if has_champion else None),
        general=pair(general["base"], general["tuned"]),
        pairing={
            "base": compare_ids(examples["tuned"], examples["base"]),
            "general": compare_ids(general["tuned"], general["base"]),
            **({"champion": compare_ids(examples["tuned"], examples["champion"])} if has_champion else {}),
        },
        safety=read_safety(Policy.of(policy), base, tuned),
        data=read_report(dataset / "report.json"),
        mask=read_report(adapter / "mask.json"),
        training=read_report(adapter / "training.json"),
        merge=read_report(parity / "parity.json"),
        lineage=lineage,
    )
    evidence = _weighed(found)
    evidence.write(output)
    progress.headline(f"{evidence.verdict.verdict}: {evidence.verdict.reasons[0]}")
    for reason in evidence.verdict.reasons[1:]:
        progress.note(reason)
    return evidence.verdict.verdict


def _weighed(found: Findings) -> Evidence:
    """The bundle. What is weighed is what a reader of the file will see: NaN has become null there."""
    read = Findings.model_validate_json(found.model_dump_json())
    weighed = weigh(read)
    return Evidence(
        **dict(read),
        verdict=weighed.verdict,
        checks=weighed.checks,
        comparisons=weighed.comparisons,
        forgetting=weighed.forgetting,
    )


def _named(*folders: Path) -> list[tuple[str, Path]]:
    return list(zip(("base", "tuned", "champion"), folders, strict=False))
