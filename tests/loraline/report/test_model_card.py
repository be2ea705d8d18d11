"""The model card and the summary, in Markdown."""

import re
import shutil
from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from loraline.artifacts.registration import Registration
from loraline.evidence.schema import Evidence
from loraline.report.markdown import run_summary
from loraline.report.model_card import render_model_card
from tests.loraline.run_outputs import remove_champion, run_gate, write_outputs

REGISTRATION = Registration(
    model_name="dates",
    version="3",
    alias="challenger",
    url="s3://loraline/models/dates/" + "c" * 64,
    digest="c" * 64,
    tags={"pipeline_run": "run-17", "gpu_image": "registry.example/loraline-gpu@sha256:1"},
)


def test_the_card_is_what_the_hub_reads(promoted_evidence: Evidence) -> None:
    text = render_model_card(promoted_evidence, REGISTRATION)
    card = ModelCard(text)
    assert card.data.library_name == "peft"
    assert card.data.eval_results is not None
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found["exact_match"] == 0.9
    metadata = yaml.safe_load(text.split("---")[1])
    assert metadata["model-index"][0]["name"] == "dates"
    assert metadata["metrics"] == ["exact_match", "f1", "rouge", "perplexity"]
    assert "base_model" not in metadata, "scratch:dates is no model of the Hub"
    assert "AutoPeftModelForCausalLM" in text
    assert REGISTRATION.url in text


def test_the_card_holds_the_whole_proof(promoted_evidence: Evidence) -> None:
    text = render_model_card(promoted_evidence, REGISTRATION)
    titles = ["Intended use", "How to use it", "Evaluation", "Checks", "Forgetting", "Safety", "Merge"]
    titles += ["Training data", "Training", "Lineage", "Limits"]
    assert re.findall(r"^## (.*)$", text, re.M) == titles
    assert "| base, exact match | +0.9 | 0.6818 to 1 | 36, 0, 4 | < 0.0001 |" in text
    assert all(f"| {check.name} | {check.outcome} |" in text for check in promoted_evidence.checks)
    assert promoted_evidence.merge
    assert f"| merged digest | {promoted_evidence.merge.merged_digest} |" in text
    assert "| pipeline run | run-17 |" in text
    for title in titles:
        body = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
        assert body.strip(), f"{title} is empty"


def test_a_base_and_data_of_the_hub_are_linked(promoted_evidence: Evidence) -> None:
    lineage = promoted_evidence.lineage
    model = lineage.model.model_copy(update={"source": "HuggingFaceTB/SmolLM2-135M"})
    data = lineage.data.model_copy(update={"source": "hf://openai/gsm8k"})
    of_the_hub = lineage.model_copy(update={"model": model, "data": data})
    card = ModelCard(render_model_card(promoted_evidence.model_copy(update={"lineage": of_the_hub})))
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M"
    assert card.data.datasets == ["openai/gsm8k"]


def test_the_card_of_nothing_says_so(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for step in vars(outputs).values():
        shutil.rmtree(step)
    run_gate(outputs, tmp_path / "evidence", policy=None)
    text = render_model_card(Evidence.load(tmp_path / "evidence"))
    assert "**Verdict of the gate: reject.**" in text
    assert "The gate rejected it: it is kept for analysis and not for use." in text
    assert "Safety not measured: switched off by safety.policy" in text


def test_the_summary_has_a_column_for_the_champion_where_there_is_one(
    tmp_path: Path, promoted_evidence: Evidence
) -> None:
    outputs = write_outputs(tmp_path)
    remove_champion(outputs.champion)
    run_gate(outputs, tmp_path / "evidence")
    assert run_summary(promoted_evidence).startswith("## Promote")
    assert "| change | champion |" in run_summary(promoted_evidence)
    assert "| change |\n" in run_summary(Evidence.load(tmp_path / "evidence"))


def test_metrics_that_no_model_has_are_left_out(promoted_evidence: Evidence) -> None:
    none = {"exact_match": None, "token_f1": None, "rouge_l": None}
    assert promoted_evidence.base
    assert promoted_evidence.tuned
    plain = promoted_evidence.model_copy(
        update={
            "base": promoted_evidence.base.model_copy(update=none),
            "tuned": promoted_evidence.tuned.model_copy(update=none),
        }
    )
    assert "| loss |" in run_summary(plain)
    assert "| exact match |" not in run_summary(plain)
