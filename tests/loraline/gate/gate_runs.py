"""Running the gate on a run's outputs, for tests."""

import json
from typing import Any

import pytest

from loraline.artifacts.evaluation import ScoredExample
from loraline.artifacts.verdict import Verdict
from loraline.evidence.schema import Check, Evidence
from loraline.gate.config import GateConfig
from tests.loraline.run_outputs import Outputs, examples_of, run_gate, write_evaluation

CONFIG = GateConfig(metric="exact_match", min_gain=0.05, min_examples=20)
CHECKS = [
    "data",
    "content",
    "mask",
    "template",
    "packing",
    "training",
    "answers",
    "gain",
    "champion",
    "forgetting",
    "safety",
]
CHECKS += ["contamination", "merge", "weights", "completeness"]


def decide(outputs: Outputs, config: GateConfig = CONFIG, **given: Any) -> Evidence:
    """Run the gate; return the evidence that it wrote."""
    output = outputs.dataset.parent / "evidence"
    verdict = run_gate(outputs, output, config, **given)
    evidence = Evidence.load(output)
    json.loads((output / "evidence.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    assert evidence.verdict.verdict == verdict
    assert Verdict.load(output) == evidence.verdict
    assert [check.name for check in evidence.checks] == CHECKS
    assert verdict == ("reject" if any(check.failed for check in evidence.checks) else "promote")
    return evidence


def named(evidence: Evidence, name: str) -> Check:
    """One check of the evidence."""
    return next(check for check in evidence.checks if check.name == name)


def failed(evidence: Evidence) -> list[str]:
    """Names of the checks that failed."""
    return [check.name for check in evidence.checks if check.failed]


def write_matches(outputs: Outputs, base: int, tuned: int, champion: int | None = None) -> None:
    """Have each model answer so many examples right, the tuned model from the first on, as the others."""
    for folder, count in ((outputs.base, base), (outputs.tuned, tuned), (outputs.champion, champion)):
        if count is not None:
            examples = examples_of(folder)
            write_evaluation(
                folder,
                [
                    example.model_copy(update={"exact_match": float(number < count)})
                    for number, example in enumerate(examples)
                ],
            )


def assert_rejected(outputs: Outputs, name: str, words: str, also: tuple[str, ...] = (), **given: Any) -> None:
    """A check fails with these words, no other than those in `also` does, and the verdict gives their details."""
    evidence = decide(outputs, **given)
    assert words in named(evidence, name).detail
    assert set(failed(evidence)) == {name, *also}
    assert evidence.verdict.verdict == "reject"
    assert evidence.verdict.reasons == [check.detail for check in evidence.checks if check.failed]


def replaced(examples: list[ScoredExample], number: int, **fields: Any) -> list[ScoredExample]:
    """The examples, with fields of one of them replaced."""
    return [
        example.model_copy(update=fields) if position == number else example
        for position, example in enumerate(examples)
    ]
