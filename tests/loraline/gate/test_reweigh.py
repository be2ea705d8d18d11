"""The bundle alone gives the verdict again; and what was altered in it comes to another."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraline.errors import ValidationError
from loraline.evidence.schema import Evidence, Thresholds, read_evidence
from loraline.gate.config import GateConfig
from loraline.gate.weigh import reweigh, weigh
from tests.loraline.gate.judging import CONFIG, decide, named
from tests.loraline.run_outputs import LINEAGE, Outputs, change, write_outputs


def fail_everywhere(o: Outputs) -> None:
    change(o.tuned / "metrics.json", loss=float("nan"), exact_match=float("inf"), tasks={"a": 3})
    change(o.parity / "parity.json", kl_divergence={"max": float("nan")})
    change(o.dataset / "report.json", contamination=[])
    (o.champion / "examples.jsonl").unlink()


@pytest.mark.parametrize("metric", ["loss", "exact_match", "token_f1", "rouge_l"])
@pytest.mark.parametrize("plant", [lambda o: None, fail_everywhere], ids=["promote", "reject"])
def test_a_stored_bundle_weighs_the_same_to_the_bit(
    tmp_path: Path, metric: Any, plant: Callable[[Outputs], None]
) -> None:
    outputs = write_outputs(tmp_path)
    plant(outputs)
    evidence = decide(outputs, GateConfig(metric=metric))
    assert evidence.verdict.verdict == ("reject" if plant is fail_everywhere else "promote")
    for bundle in (evidence, Evidence.model_validate_json(evidence.model_dump_json())):
        assert reweigh(bundle) == bundle.verdict
        weighed = weigh(bundle)
        assert weighed.checks == evidence.checks
        assert weighed.comparisons == evidence.comparisons
        assert weighed.forgetting == evidence.forgetting


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    *parts, last = path.split(".")

    def alter(document: dict[str, Any]) -> None:
        inside: Any = document
        for part in parts:
            inside = inside[int(part) if part.isdigit() else part]
        inside[last] = value

    return alter


ALTERED = {
    "figure": _set("tuned.exact_match", 0.95),
    "example": _set("examples.3.base.exact_match", 1.0),
    "champion": _set("examples.3.champion.loss", 1e-3),
    "general": _set("general.3.tuned.loss", 900.0),
    "mask": _set("training.labelled_tokens", 0),
    "merge": _set("merge.greedy", {"examples": 8, "equal": 1, "ties": 0}),
    "probe": _set("safety.probes.2.tuned_leaked", True),
    "budget": _set("safety.budget.min_refusal_rate", 1.5),
    "contamination": _set("data.contamination.contaminated", 20),
    "champion gone": _set("has_champion", None),
    "pairing": _set("pairing.base.other_only", ["another"]),
    "no pairing": _set("pairing", {}),
    "minimum": _set("thresholds.min_gain", 0.8),
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_bundle_does_not_weigh_the_same(tmp_path: Path, name: str) -> None:
    document = json.loads(decide(write_outputs(tmp_path)).model_dump_json())
    ALTERED[name](document)
    evidence = Evidence.model_validate(document)
    assert evidence.verdict.verdict == "promote"
    again = reweigh(evidence)
    assert again.verdict == "reject"
    assert again != evidence.verdict


def test_the_thresholds_must_be_those_of_the_recipe(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    recipe = {**LINEAGE["recipe"], "gate": CONFIG.model_dump(mode="json")}
    lineage = {**LINEAGE, "recipe": recipe}
    assert decide(outputs, lineage=lineage).verdict.verdict == "promote"
    laxer = CONFIG.model_copy(update={"max_contamination": 1.0})
    evidence = decide(outputs, laxer, lineage=lineage)
    assert evidence.verdict.verdict == "reject"
    assert "gate.max_contamination = 0.01, held to 1.0" in named(evidence, "completeness").detail


def test_the_bundle_holds_every_threshold_of_the_gate() -> None:
    assert set(Thresholds.model_fields) == set(GateConfig.model_fields)


def test_evidence_of_version_1_is_read_but_not_weighed_again(tmp_path: Path) -> None:
    document = {
        "version": 1,
        "verdict": {
            "verdict": "promote",
            "reasons": ["exact match rose"],
            "metric": "exact_match",
            "gain": 0.9,
            "min_gain": 0.0,
            "examples": 1,
        },
        "base": {"exact_match": 0.0},
        "tuned": {"exact_match": 0.9},
        "examples": [{"id": "a", "base": {"answer": "x", "tokens": 3}, "tuned": {"answer": "y", "tokens": 3}}],
        "data": None,
        "mask": None,
        "training": {"steps": 3},
        "merge": {"tolerance": 0.5},
        "lineage": {"recipe": {}},
    }
    (tmp_path / "evidence.json").write_text(json.dumps(document))
    evidence = read_evidence(tmp_path)
    assert (evidence.version, evidence.verdict.gain, evidence.verdict.lower) == (1, 0.9, None)
    assert (evidence.champion, evidence.has_champion, evidence.checks, evidence.comparisons) == (None, None, [], [])
    with pytest.raises(ValidationError, match="of version 1, which cannot be weighed again"):
        reweigh(evidence)


def test_evidence_of_a_later_release_is_refused(tmp_path: Path) -> None:
    decide(write_outputs(tmp_path))
    path = tmp_path / "evidence" / "evidence.json"
    change(path, version=3)
    with pytest.raises(ValidationError, match="evidence of version 3; this release reads up to 2"):
        read_evidence(path.parent)
