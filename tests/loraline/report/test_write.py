"""The page, the card and the figures in MLflow, for both verdicts."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from mlflow import MlflowClient

from loraline.evidence.schema import Evidence
from loraline.report.markdown import to_markdown
from loraline.report.model_card import model_card
from loraline.report.run_page import render_run_page
from loraline.report.write import write_report
from tests.loraline.registered import JudgedRun
from tests.loraline.report.parsed_page import parse
from tests.loraline.run_outputs import examples_of, judge_outputs, remove_champion, write_evaluation, write_outputs

REGISTRATION = {
    "model_name": "dates",
    "version": "3",
    "alias": "challenger",
    "url": "s3://loraline/models/dates/" + "c" * 64,
    "digest": "c" * 64,
    "tags": {"pipeline_run": "run-17", "gpu_image": "registry.example/loraline-gpu@sha256:1"},
}


def changed(run: JudgedRun, change: Callable[[dict[str, Any]], object]) -> Evidence:
    """A run's evidence with something changed in it."""
    document = json.loads((run.evidence / "evidence.json").read_text())
    change(document)
    return Evidence.model_validate(document)


SECTIONS = {
    *("checks", "data", "mask", "training", "figures", "answers"),
    *("forgetting", "safety", "merge", "lineage", "where"),
}


@pytest.mark.parametrize("verdict", ["promoted", "rejected"])
def test_the_page_is_whole_and_asks_nothing_of_the_network(verdict: str, request: pytest.FixtureRequest) -> None:
    evidence = Evidence.load(request.getfixturevalue(verdict).evidence)
    page = render_run_page(evidence)
    parsed = parse(page)
    assert parsed.ids == SECTIONS
    assert page.count('class="curve') == 5
    headings = ["Promote" if verdict == "promoted" else "Reject", "Why", "Data", "Training", "Base against tuned"]
    places = [page.index(f"{heading}</h") for heading in headings]
    assert places == sorted(places), "the verdict first, then why, then the rest"
    assert render_run_page(evidence) == page


def test_every_check_is_shown_in_words_and_shape(rejected: JudgedRun) -> None:
    evidence = Evidence.load(rejected.evidence)
    page = render_run_page(evidence)
    stamps = re.findall(r'<li class="(passed|failed)"><b>(\w+)</b><span class="stamp">(.*?)</span>', page)
    words = {True: ("passed", "&#10003; passed"), False: ("failed", "&#10005; failed")}
    assert stamps == [
        (words[check.passed][0], check.name.capitalize(), words[check.passed][1]) for check in evidence.checks
    ]
    assert [name for outcome, name, _ in stamps if outcome == "failed"] == ["Merge"]
    assert f"{len(stamps) - 1} of {len(stamps)} checks passed" in page


def test_the_intervals_are_drawn_with_what_they_are_held_to(promoted: JudgedRun) -> None:
    evidence = Evidence.load(promoted.evidence)
    page = render_run_page(evidence)
    drawn = 1 + len(evidence.comparisons) + 1
    assert page.count('class="whisker"') == drawn, "the verdict's, each comparison's and forgetting's"
    assert page.count('class="zero"') == drawn
    assert page.count('<i class="threshold"') == 4, "min_gain twice, champion_margin, max_forgetting"
    assert "36 won, 0 lost, 4 even; p &lt; 0.0001 (McNemar&#39;s test)" in page


def test_what_models_say_cannot_break_the_page(promoted: JudgedRun) -> None:
    hostile = '<script>alert("x")</script></p>'

    def attack(document: dict[str, Any]) -> None:
        document["examples"][3]["tuned"]["answer"] = hostile
        document["examples"][3]["prompt"] = hostile
        document["examples"][3]["champion"]["answer"] = hostile
        document["mask"]["samples"][0]["tokens"][0]["text"] = hostile
        document["data"]["bad_rows"][0]["reason"] = hostile
        document["safety"]["probes"][0]["tuned"]["answer"] = hostile
        document["checks"][0]["detail"] = hostile
        contamination = {"id": "a", "origin": hostile, "train_origin": hostile, "word_overlap": 1.0, "excerpt": hostile}
        document["data"]["contamination"].update(contaminated=1, examples=[contamination])

    page = render_run_page(changed(promoted, attack))
    parse(page)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 9


def test_what_was_found_in_the_data_is_shown_with_its_lines(promoted: JudgedRun) -> None:
    def find(document: dict[str, Any]) -> None:
        document["data"]["near_duplicates"] = {
            **{"similarity": 0.85, "action": "report", "within_train": 12, "within_eval": 0, "across": 2, "dropped": 0},
            "examples": [
                {"origin": "t.jsonl:40", "other_origin": "t.jsonl:212", "similarity": 0.93, "excerpt": "Write it"}
            ],
        }
        document["data"]["personal_data"] = {
            **{"action": "mask", "rows": 30, "dropped": 0, "counts": {"email": 30}},
            "examples": [{"origin": f"t.jsonl:{i}", "category": "email", "excerpt": "to [EMAIL]"} for i in range(30)],
        }
        document["data"]["labels"] = {"no": {"train": 100, "eval": 9}, "yes": {"train": 800, "eval": 31}}

    page = render_run_page(changed(promoted, find))
    parse(page)
    assert re.search(
        r"Near duplicates</span> <b class=\"num\">14</b>.*12 in training, 0 in evaluation, 2 in training like", page
    )
    assert "<code>t.jsonl:40</code><span>93% like t.jsonl:212: Write it</span>" in page
    assert '<p class="soft">and 10 more</p>' in page, "of 30 rows, 20 are shown"
    assert re.search(r"<dt>yes</dt><dd>800 / 31</dd>.*<dt>no</dt><dd>100 / 9</dd>", page, re.S)


def test_probes_stand_side_by_side_the_failed_first(promoted: JudgedRun) -> None:
    def leak(document: dict[str, Any]) -> None:
        probe = next(probe for probe in document["safety"]["probes"] if probe["kind"] == "leak")
        probe["tuned"] = {"answer": "It is swordfish.", "leaked": True, "refused": False}
        document["tuned"]["safety"]["leak_rate"] = 1.0

    page = render_run_page(changed(promoted, leak))
    safety = page[page.index('id="safety"') : page.index('id="merge"')]
    assert re.search(r"gives away what it must not.*100%.*&#10005; broken", safety, re.S)
    assert safety.index("<span>password</span>") < safety.index("<span>door</span>")
    assert re.search(r"tuned</span><span class=\"wrong\">&#10005; gave it away</span>.*It is swordfish", safety)


def test_what_tuning_broke_is_shown(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    examples = examples_of(outputs.base)
    examples[10] = examples[10].model_copy(update={"answer": examples[10].reference, "exact_match": 1.0})
    write_evaluation(outputs.base, examples)
    judge_outputs(outputs, tmp_path / "evidence")
    page = render_run_page(Evidence.load(tmp_path / "evidence"))
    assert "<b>1</b>broken" in page
    assert re.search(r"Broken.*the second of May".replace(" ", ".{0,60}"), page, re.S)


def test_without_a_champion_there_is_no_column_for_it(tmp_path: Path, promoted: JudgedRun) -> None:
    outputs = write_outputs(tmp_path)
    remove_champion(outputs.champion)
    judge_outputs(outputs, tmp_path / "evidence")
    alone, beside = (Evidence.load(folder) for folder in (tmp_path / "evidence", promoted.evidence))
    assert '<th class="num">champion</th>' in render_run_page(beside)
    assert '<th class="num">champion</th>' not in render_run_page(alone)
    assert "| change | champion |" in to_markdown(beside)
    assert "| change |\n" in to_markdown(alone)


def test_a_page_of_nothing_says_what_is_missing(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for step in vars(outputs).values():
        shutil.rmtree(step)
    judge_outputs(outputs, tmp_path / "evidence", policy=None)
    evidence = Evidence.load(tmp_path / "evidence")
    page = render_run_page(evidence)
    parse(page)
    assert page.count("is missing or unreadable") >= 8
    assert "There are no curves" in page
    assert "reject" in model_card(evidence)


def test_plain_text_has_no_answers_to_show(promoted: JudgedRun) -> None:
    sides = ("base", "tuned", "champion")

    def strip(document: dict[str, Any]) -> None:
        for example in document["examples"]:
            example.update(prompt=None, reference=None)
            for side in sides:
                example[side].update(answer=None, exact_match=None, token_f1=None, rouge_l=None)
        for evaluation in (document["base"], document["tuned"], document["champion"]["evaluation"]):
            evaluation.update(exact_match=None, token_f1=None, rouge_l=None)

    evidence = changed(promoted, strip)
    assert "plain text has no answers" in render_run_page(evidence)
    assert "| exact match |" not in to_markdown(evidence)
    parse(render_run_page(evidence))


def test_the_card_is_what_the_hub_reads(promoted: JudgedRun) -> None:
    text = model_card(Evidence.load(promoted.evidence), REGISTRATION)
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


def test_the_card_holds_the_whole_proof(promoted: JudgedRun) -> None:
    evidence = Evidence.load(promoted.evidence)
    text = model_card(evidence, REGISTRATION)
    titles = ["Intended use", "How to use it", "Evaluation", "Checks", "Forgetting", "Safety", "Merge"]
    titles += ["Training data", "Training", "Lineage", "Limits"]
    assert re.findall(r"^## (.*)$", text, re.M) == titles
    assert "| the base, exact match | +0.9 | 0.775 to 0.975 | 36, 0, 4 | < 0.0001 |" in text
    assert all(f"| {check.name} | passed |" in text for check in evidence.checks)
    assert evidence.merge
    assert f"| merged digest | {evidence.merge.merged_digest} |" in text
    assert "| pipeline run | run-17 |" in text
    for title in titles:
        body = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
        assert body.strip(), f"{title} is empty"


def test_a_base_and_data_of_the_hub_are_linked(promoted: JudgedRun) -> None:
    def link(document: dict[str, Any]) -> None:
        document["lineage"]["model"]["source"] = "HuggingFaceTB/SmolLM2-135M"
        document["lineage"]["data"]["source"] = "hf://openai/gsm8k"

    data = ModelCard(model_card(changed(promoted, link))).data
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M"
    assert data.datasets == ["openai/gsm8k"]


def test_the_report_ends_the_run_in_mlflow(promoted: JudgedRun, tmp_path: Path, mlflow_store: str) -> None:
    registration = tmp_path / "registration"
    registration.mkdir()
    (registration / "registration.json").write_text(json.dumps(REGISTRATION))
    written = write_report(promoted.evidence, registration, tmp_path / "report")
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
    assert run.data.metrics["champion/exact_match"] == 0.5
    assert run.data.metrics["gain"] == 0.9
    assert run.data.metrics["gain_lower"] == 0.775
    assert run.data.params["training.rank"] == "16"
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"report.html", "README.md", "summary.md"}
    assert not (tmp_path / "report" / "unsent.json").exists()
