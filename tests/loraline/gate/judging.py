"""Judging a run's outputs, for tests."""

import json
from pathlib import Path
from typing import Any

import pytest

from loraline.evidence.schema import Check, Evidence, read_evidence
from loraline.gate.config import GateConfig
from tests.loraline.run_outputs import Outputs, judge_outputs, read_lines, write_evaluation

CONFIG = GateConfig(metric="exact_match", min_gain=0.05, min_examples=20)
CHECKS = ["data", "mask", "template", "packing", "training", "gain", "champion", "forgetting", "safety"]
CHECKS += ["contamination", "merge", "completeness"]


def decide(outputs: Outputs, config: GateConfig = CONFIG, **given: Any) -> Evidence:
    """Judge a run's outputs; the evidence that was written."""
    output = outputs.dataset.parent / "evidence"
    verdict = judge_outputs(outputs, output, config, **given)
    evidence = read_evidence(output)
    json.loads((output / "evidence.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    assert evidence.verdict.verdict == verdict
    assert json.loads((output / "verdict.json").read_text()) == json.loads(evidence.verdict.model_dump_json())
    assert [check.name for check in evidence.checks] == CHECKS
    assert verdict == ("promote" if all(check.passed for check in evidence.checks) else "reject")
    return evidence


def named(evidence: Evidence, name: str) -> Check:
    return next(check for check in evidence.checks if check.name == name)


def examples_of(folder: Path) -> list[dict[str, Any]]:
    return read_lines(folder / "examples.jsonl")


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def hits(outputs: Outputs, base: int, tuned: int, champion: int | None = None) -> None:
    """Have each side answer so many examples right, the later ones those that the earlier side did not."""
    for side, first, count in ((outputs.base, 0, base), (outputs.tuned, 0, tuned), (outputs.champion, 0, champion)):
        if count is not None:
            examples = examples_of(side)
            for number, example in enumerate(examples):
                example["exact_match"] = float(first <= number < first + count)
            write_evaluation(side, examples)
