"""A file that is missing, broken or of another shape is a reject that names it, and never ends the step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.evaluation import EXAMPLES, GENERAL, PROBES, ChampionReport, EvaluationReport
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.training import MaskReport, TrainReport
from loraline.evidence.lineage import Lineage
from tests.loraline.gate.gate_runs import CONFIG, assert_rejected, decide, named
from tests.loraline.run_outputs import LINEAGE, Outputs, damage, write_outputs


def wrong_line(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("\n".join(lines) + "\n")


FAULTS: dict[str, tuple[Callable[[Outputs], Any], str, tuple[str, ...]]] = {
    "no file": (
        lambda o: (o.tuned / EvaluationReport.FILE).unlink(),
        "the tuned model's evaluation (metrics.json) is missing or unreadable: there is no such file",
        ("gain", "champion", "forgetting", "safety", "weights"),
    ),
    "a folder": (
        lambda o: [(o.parity / MergeReport.FILE).unlink(), (o.parity / MergeReport.FILE).mkdir()],
        "the merge's report (parity.json) is missing or unreadable: [Errno 21]",
        ("template", "merge", "weights"),
    ),
    "cut short": (
        lambda o: (o.parity / MergeReport.FILE).write_text('{"max_abs'),
        "the merge's report (parity.json) is missing or unreadable: Invalid JSON",
        ("template", "merge", "weights"),
    ),
    "no object": (
        lambda o: (o.adapter / MaskReport.FILE).write_text("[1, 2]"),
        "the loss mask's report (mask.json) is missing or unreadable: Input should be an object",
        ("mask", "template"),
    ),
    "no text": (
        lambda o: (o.adapter / MaskReport.FILE).write_bytes(b"\xff\xfe"),
        "the loss mask's report (mask.json) is missing or unreadable: Invalid JSON",
        ("mask", "template"),
    ),
    "another shape inside": (
        lambda o: damage(MaskReport, o.adapter, samples=[3]),
        "(mask.json) is missing or unreadable: samples.0: Input should be an object",
        ("mask", "template"),
    ),
    "no figure": (
        lambda o: damage(MergeReport, o.parity, max_divergence=None),
        "(parity.json) is missing or unreadable: max_divergence: Input should be a valid number",
        ("template", "merge", "weights"),
    ),
    "no count": (
        lambda o: damage(TrainReport, o.adapter, labelled_tokens=None),
        "(training.json) is missing or unreadable: labelled_tokens: Input should be a valid integer",
        ("mask", "packing", "training", "merge"),
    ),
    "no section": (
        lambda o: damage(DatasetReport, o.dataset, contamination=None),
        "(report.json) is missing or unreadable: contamination: Input should be an object",
        ("data", "content", "contamination"),
    ),
    "no champion's evaluation": (
        lambda o: damage(ChampionReport, o.champion, evaluation=None),
        "the champion's evaluation (champion.json) is missing or unreadable",
        ("champion",),
    ),
    "a word for a figure": (
        lambda o: wrong_line(o.base / EXAMPLES, 4, '"loss":', '"loss":"low","was":'),
        "the base's list of scored examples (examples.jsonl) is missing or unreadable: line 4: loss: Input should be",
        ("template", "answers", "gain", "champion"),
    ),
    "a number for a line": (
        lambda o: (o.champion / EXAMPLES).write_text("7\n"),
        "the champion's list of scored examples (examples.jsonl) is missing or unreadable: line 1: Input should be",
        ("champion",),
    ),
    "a general row without tokens": (
        lambda o: wrong_line(o.tuned / GENERAL, 2, '"tokens":', '"was":'),
        "the tuned model's losses on the general set (general.jsonl) is missing or unreadable: line 2: tokens: Field",
        ("forgetting",),
    ),
    "a probe without an outcome": (
        lambda o: wrong_line(o.tuned / PROBES, 1, '"refused":', '"was":'),
        "the tuned model's results on the probes (probes.jsonl) is missing or unreadable: line 1: refused: Field",
        ("safety",),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_read_is_named_with_the_field(tmp_path: Path, fault: str) -> None:
    outputs = write_outputs(tmp_path)
    plant, words, also = FAULTS[fault]
    plant(outputs)
    assert_rejected(outputs, "completeness", words, also=also)


def test_the_thresholds_must_be_those_of_the_recipe(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    recipe = {**LINEAGE.recipe, "gate": CONFIG.model_dump(mode="json")}
    lineage: Lineage = LINEAGE.model_copy(update={"recipe": recipe})
    assert decide(outputs, lineage=lineage).verdict.verdict == "promote"
    laxer = CONFIG.model_copy(update={"max_contamination": 1.0})
    evidence = decide(outputs, laxer, lineage=lineage)
    assert evidence.verdict.verdict == "reject"
    assert "gate.max_contamination = 0.01, held to 1.0" in named(evidence, "completeness").detail
