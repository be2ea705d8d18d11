"""The page, the card and the figures in MLflow, for both verdicts."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from mlflow import MlflowClient

from components.gate.config import GateConfig
from components.gate.judge import judge
from components.report.report import write_report
from components.shared.evidence import read_evidence
from components.shared.page import model_card, render_page, to_markdown
from tests.components.run_outputs import LINEAGE, change, write_evaluation, write_outputs

REGISTRATION = {
    "model_name": "dates",
    "version": "3",
    "alias": "challenger",
    "url": "s3://loraline/models/dates/" + "c" * 64,
    "digest": "c" * 64,
}
_VOID = {"meta", "line", "path", "circle", "rect", "br", "link"}


class Balanced(HTMLParser):
    """Fails on a tag that is not closed; gathers the ids and what is asked of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.requests: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            if name in ("src", "srcset", "href") and not (value or "").startswith("#"):
                self.requests.append(value or "")
        assert tag != "script"

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag


def make_evidence(folder: Path, promote: bool = True) -> Path:
    outputs = write_outputs(folder)
    if not promote:
        change(outputs.parity / "parity.json", max_abs_logit_difference=0.7)
    judge(
        GateConfig(metric="exact_match"),
        LINEAGE,
        dataset=outputs.dataset,
        base=outputs.base,
        tuned=outputs.tuned,
        adapter=outputs.adapter,
        parity=outputs.parity,
        output=folder / "evidence",
    )
    return folder / "evidence"


def parse(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser


@pytest.mark.parametrize("promote", [True, False])
def test_the_page_is_whole_and_asks_nothing_of_the_network(tmp_path: Path, promote: bool) -> None:
    evidence = read_evidence(make_evidence(tmp_path, promote))
    page = render_page(evidence)
    parsed = parse(page)
    sections = {"figures", "answers", "training", "mask", "data", "merge", "lineage", "where"}
    assert parsed.ids == sections
    assert parsed.requests == []
    assert "url(" not in page
    assert "@import" not in page
    assert page.count('class="curve') == 5
    assert page.index("Promote" if promote else "Reject") < page.index("Base against tuned")
    assert render_page(evidence) == page


def test_what_models_say_cannot_break_the_page(tmp_path: Path) -> None:
    folder = make_evidence(tmp_path)
    document = json.loads((folder / "evidence.json").read_text())
    hostile = '<script>alert("x")</script></p>'
    document["examples"][3]["tuned"]["answer"] = hostile
    document["examples"][3]["prompt"] = hostile
    document["mask"]["samples"][0]["tokens"][0]["text"] = hostile
    document["data"]["bad_rows"][0]["reason"] = hostile
    (folder / "evidence.json").write_text(json.dumps(document))
    page = render_page(read_evidence(folder))
    parse(page)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_what_tuning_broke_is_shown(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    sides = {
        side: [json.loads(line) for line in (tmp_path / side / "examples.jsonl").open()] for side in ("base", "tuned")
    }
    sides["base"][10].update(answer=sides["base"][10]["reference"], exact_match=1.0)
    for side, examples in sides.items():
        write_evaluation(tmp_path / side, examples)
    judge(
        GateConfig(metric="exact_match"),
        LINEAGE,
        dataset=outputs.dataset,
        base=outputs.base,
        tuned=outputs.tuned,
        adapter=outputs.adapter,
        parity=outputs.parity,
        output=tmp_path / "evidence",
    )
    page = render_page(read_evidence(tmp_path / "evidence"))
    assert "<b>1</b>broken" in page
    assert re.search(r"Broken.*the second of May".replace(" ", ".{0,60}"), page, re.S)


def test_a_page_of_nothing_says_what_is_missing(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    judge(
        GateConfig(),
        {},
        dataset=nowhere,
        base=nowhere,
        tuned=nowhere,
        adapter=nowhere,
        parity=nowhere,
        output=tmp_path / "evidence",
    )
    evidence = read_evidence(tmp_path / "evidence")
    page = render_page(evidence)
    parse(page)
    assert page.count("is missing or unreadable") == 8
    assert "There are no curves" in page
    assert "reject" in model_card(evidence)


def test_plain_text_has_no_answers_to_show(tmp_path: Path) -> None:
    folder = make_evidence(tmp_path)
    document = json.loads((folder / "evidence.json").read_text())
    for example in document["examples"]:
        example.update(prompt=None, reference=None)
        for side in ("base", "tuned"):
            example[side].update(answer=None, exact_match=None, token_f1=None, rouge_l=None)
    for side in ("base", "tuned"):
        document[side].update(exact_match=None, token_f1=None, rouge_l=None)
    (folder / "evidence.json").write_text(json.dumps(document))
    evidence = read_evidence(folder)
    assert "plain text has no answers" in render_page(evidence)
    assert "exact match" not in to_markdown(evidence).split("| | base")[1]
    parse(render_page(evidence))


def test_the_card_is_what_the_hub_reads(tmp_path: Path) -> None:
    text = model_card(read_evidence(make_evidence(tmp_path)), REGISTRATION)
    card = ModelCard(text)
    assert card.data.library_name == "peft"
    assert card.data.eval_results is not None
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found["exact_match"] == 0.9
    metadata = yaml.safe_load(text.split("---")[1])
    assert metadata["model-index"][0]["name"] == "dates"
    assert "base_model" not in metadata, "scratch:dates is no model of the Hub"
    assert "AutoPeftModelForCausalLM" in text
    assert REGISTRATION["url"] in text


def test_a_base_and_data_of_the_hub_are_linked(tmp_path: Path) -> None:
    folder = make_evidence(tmp_path)
    document = json.loads((folder / "evidence.json").read_text())
    document["lineage"]["model"]["source"] = "HuggingFaceTB/SmolLM2-135M"
    document["lineage"]["data"]["source"] = "hf://openai/gsm8k"
    (folder / "evidence.json").write_text(json.dumps(document))
    data = ModelCard(model_card(read_evidence(folder))).data
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M"
    assert data.datasets == ["openai/gsm8k"]


def test_the_report_ends_the_run_in_mlflow(tmp_path: Path, mlflow_store: str) -> None:
    registration = tmp_path / "registration"
    registration.mkdir()
    (registration / "registration.json").write_text(json.dumps(REGISTRATION))
    written = write_report(make_evidence(tmp_path), registration, tmp_path / "report")
    assert "models:/dates/3" in written.page.read_text()
    assert written.summary.read_text().startswith("## Promote")

    client = MlflowClient(mlflow_store)
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["verdict"] == "promote"
    assert run.data.tags["model_version"] == "dates/3"
    assert run.data.metrics["base/exact_match"] == 0.0
    assert run.data.metrics["tuned/exact_match"] == 0.9
    assert run.data.metrics["gain"] == 0.9
    assert run.data.params["training.rank"] == "16"
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"report.html", "README.md"}
    assert not (tmp_path / "report" / "unsent.json").exists()
