"""The evidence alone gives the verdict again; and evidence that was altered gives another."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError as PydanticError

from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.evaluation import EXAMPLES, EvaluationReport
from loraline.artifacts.merging import KlReport, MergeReport
from loraline.evidence.schema import Evidence
from loraline.gate.config import GateConfig
from loraline.gate.weigh import reweigh, weigh
from tests.loraline.gate.gate_runs import decide
from tests.loraline.run_outputs import Outputs, change, damage, write_outputs


def fail_everywhere(o: Outputs) -> None:
    change(EvaluationReport, o.tuned, loss=float("nan"), exact_match=float("inf"))
    damage(EvaluationReport, o.base, tasks={"a": 3})
    change(MergeReport, o.parity, kl_divergence=KlReport(mean=None, p99=None, max=float("nan")))
    damage(DatasetReport, o.dataset, contamination=[])
    (o.champion / EXAMPLES).unlink()


@pytest.mark.parametrize("metric", ["loss", "exact_match", "token_f1", "rouge_l"])
@pytest.mark.parametrize("plant", [lambda o: None, fail_everywhere], ids=["promote", "reject"])
def test_stored_evidence_weighs_the_same_to_the_bit(
    tmp_path: Path, metric: Any, plant: Callable[[Outputs], None]
) -> None:
    outputs = write_outputs(tmp_path)
    plant(outputs)
    evidence = decide(outputs, GateConfig(metric=metric))
    assert evidence.verdict.verdict == ("reject" if plant is fail_everywhere else "promote")
    for stored in (evidence, Evidence.model_validate_json(evidence.model_dump_json())):
        assert reweigh(stored) == stored.verdict
        weighed = weigh(stored)
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
    "merge": _set("merge.effect_kept", 0.9),
    "probe": _set("safety.probes.2.tuned.leaked", True),
    "rates": _set("tuned.safety.refusal_rate", 0.5),
    "contamination": _set("data.contamination.contaminated", 20),
    "champion gone": _set("champion", None),
    "champion's evaluation gone": _set("champion.evaluation", None),
    "pairing": _set("pairing.base.other_only", ["another"]),
    "no pairing": _set("pairing", {}),
    "minimum": _set("thresholds.min_gain", 0.8),
    "unreadable": _set("unreadable", {"merge": "kl_divergence: Field required"}),
}


@pytest.mark.parametrize("name", ALTERED)
def test_altered_evidence_does_not_weigh_the_same(tmp_path: Path, name: str) -> None:
    document = json.loads(decide(write_outputs(tmp_path)).model_dump_json())
    ALTERED[name](document)
    evidence = Evidence.model_validate(document)
    assert evidence.verdict.verdict == "promote"
    again = reweigh(evidence)
    assert again.verdict == "reject"
    assert again != evidence.verdict


def test_a_policys_threshold_that_no_rate_can_reach_is_no_evidence(tmp_path: Path) -> None:
    document = json.loads(decide(write_outputs(tmp_path)).model_dump_json())
    _set("safety.thresholds.min_refusal_rate", 1.5)(document)
    with pytest.raises(PydanticError, match="less than or equal to 1"):
        Evidence.model_validate(document)
