"""Judge a tuned model by the evidence: promote it or reject it, with the reasons in words."""

import json
from pathlib import Path
from typing import Any

from components.gate import checks
from components.gate.config import GateConfig
from components.shared import progress
from components.shared.evidence import Evidence, Verdict, VerdictName, pair_examples, read_lines


def judge(
    config: GateConfig,
    lineage: dict[str, Any],
    dataset: Path,
    base: Path,
    tuned: Path,
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
        dataset: folder with the dataset's report.json.
        base: folder with metrics.json and examples.jsonl of the base.
        tuned: the same of the tuned model.
        adapter: folder with training.json and mask.json.
        parity: folder with the merge's parity.json.
        output: folder to write.
    """
    findings = checks.Findings(
        data=_read(dataset / "report.json"),
        base=_read(base / "metrics.json"),
        tuned=_read(tuned / "metrics.json"),
        base_examples=_read_examples(base),
        tuned_examples=_read_examples(tuned),
        training=_read(adapter / "training.json"),
        mask=_read(adapter / "mask.json"),
        merge=_read(parity / "parity.json"),
    )
    verdict = _weigh(config, findings)
    Evidence(
        verdict=verdict,
        base=findings.base,
        tuned=findings.tuned,
        examples=pair_examples(findings.base_examples, findings.tuned_examples),
        data=findings.data,
        mask=findings.mask,
        training=findings.training,
        merge=findings.merge,
        lineage=lineage,
    ).write(output)
    progress.headline(f"{verdict.verdict}: {verdict.reasons[0]}")
    for reason in verdict.reasons[1:]:
        progress.note(reason)
    return verdict.verdict


def _weigh(config: GateConfig, findings: checks.Findings) -> Verdict:
    """Gather what speaks against the model; where nothing does, what speaks for it."""
    against = [
        *checks.missing_parts(findings),
        *checks.examples(config, findings),
        *checks.gain(config, findings),
        *checks.merge(findings),
        *checks.mask(findings),
        *checks.training(findings),
    ]
    return Verdict(
        verdict="reject" if against else "promote",
        reasons=against or checks.in_favour(config, findings),
        metric=config.metric,
        gain=findings.gain(config.metric),
        min_gain=config.min_gain,
        examples=findings.scored(config.metric),
    )


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is none, which `missing_parts` reports."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _read_examples(evaluation: Path) -> list[dict[str, Any]]:
    """The scored examples; none where the file is not there or is something else."""
    try:
        examples = read_lines(evaluation / "examples.jsonl")
    except (FileNotFoundError, ValueError):
        return []
    return examples if all(isinstance(e, dict) and "id" in e for e in examples) else []
