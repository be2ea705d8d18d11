"""The gate: promote a tuned model or reject it, with the reasons in words."""

from pathlib import Path

from loraline import progress
from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.evaluation import ChampionReport, EvaluationReport
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.training import MaskReport, TrainReport
from loraline.artifacts.verdict import VerdictName
from loraline.evidence.lineage import Lineage
from loraline.evidence.schema import Evidence, Findings, Pairings
from loraline.gate.config import GateConfig
from loraline.gate.gather import ReportReader, compare_ids, pair_examples, pair_losses, pair_probes
from loraline.gate.weigh import weigh
from loraline.identity.digests import json_digest
from loraline.identity.step_identity import step_identity
from loraline.safety.policy import Policy


def judge(
    config: GateConfig,
    lineage: Lineage,
    policy: Policy | None,
    dataset: Path,
    base: Path,
    tuned: Path,
    champion: Path,
    adapter: Path,
    parity: Path,
    output: Path,
) -> VerdictName:
    """Decide from what the run measured; the same findings always give the same verdict.

    Whatever is missing, unreadable or not a number is a reason to reject, and never ends the step: a reject with its
    reasons is what people need to see. Writes verdict.json and evidence.json into `output`.

    Args:
        config: thresholds.
        lineage: recipe and digests, as the run began with them.
        policy: the safety policy; None where there is none.
        dataset: folder of the dataset.
        base: folder of the base's evaluation.
        tuned: folder of the tuned model's evaluation.
        champion: folder of the champion's evaluation, also where there is no champion.
        adapter: folder of the adapter.
        parity: folder with the merge's report.
        output: folder to write.
    """
    findings = _with_code_version(_gather(config, lineage, policy, dataset, base, tuned, champion, adapter, parity))
    # What is weighed is what a reader of the file will see.
    read = Findings.model_validate_json(findings.model_dump_json())
    weighed = weigh(read)
    evidence = Evidence(
        **dict(read),
        verdict=weighed.verdict,
        checks=weighed.checks,
        comparisons=weighed.comparisons,
        forgetting=weighed.forgetting,
    )
    evidence.save(output)
    evidence.verdict.save(output)
    progress.headline(f"{evidence.verdict.verdict}: {evidence.verdict.reasons[0]}")
    for reason in evidence.verdict.reasons[1:]:
        progress.note(reason)
    return evidence.verdict.verdict


def _gather(
    config: GateConfig,
    lineage: Lineage,
    policy: Policy | None,
    dataset: Path,
    base: Path,
    tuned: Path,
    champion: Path,
    adapter: Path,
    parity: Path,
) -> Findings:
    reader = ReportReader()
    champion_report = reader.report("champion", ChampionReport, champion)
    has_champion = champion_report is not None and champion_report.champion is not None
    base_examples = reader.examples("base examples", base)
    tuned_examples = reader.examples("tuned examples", tuned)
    champion_examples = reader.examples("champion examples", champion) if has_champion else []
    base_rows, tuned_rows = reader.general("base general rows", base), reader.general("tuned general rows", tuned)
    probes = [reader.probes("base probes", base), reader.probes("tuned probes", tuned)]
    return Findings(
        thresholds=config,
        base=reader.report("base", EvaluationReport, base),
        tuned=reader.report("tuned", EvaluationReport, tuned),
        champion=champion_report,
        examples=pair_examples(base_examples, tuned_examples, champion_examples),
        general=pair_losses(base_rows, tuned_rows),
        pairing=Pairings(
            base=compare_ids(tuned_examples, base_examples),
            general=compare_ids(tuned_rows, base_rows),
            champion=compare_ids(tuned_examples, champion_examples) if has_champion else None,
        ),
        safety=pair_probes(policy, *probes) if policy else None,
        mask=reader.report("mask", MaskReport, adapter),
        data=reader.report("data", DatasetReport, dataset),
        training=reader.report("training", TrainReport, adapter),
        merge=reader.report("merge", MergeReport, parity),
        lineage=lineage,
        unreadable=reader.unreadable,
    )


def _with_code_version(findings: Findings) -> Findings:
    """Add the digest over the code and the libraries of the steps behind the model, as their reports state them."""
    reports = (findings.data, findings.base, findings.tuned, findings.training, findings.merge)
    stated = [report.identity.digest if report else "" for report in reports]
    version = json_digest([*stated, step_identity("gate").digest])
    return findings.model_copy(update={"lineage": findings.lineage.model_copy(update={"code_version": version})})
