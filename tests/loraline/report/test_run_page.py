"""The page of a run, for both verdicts."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from loraline.artifacts.base import ReportT
from loraline.artifacts.dataset import ContaminatedRow, NearDuplicate, ScreeningExample
from loraline.artifacts.evaluation import ProbeOutcome, ProbeRates
from loraline.artifacts.registration import Registration
from loraline.evidence.schema import Evidence, PairedExample
from loraline.report.run_page import render_run_page
from tests.loraline.report.parsed_page import parse
from tests.loraline.run_outputs import examples_of, remove_champion, run_gate, write_evaluation, write_outputs

HOSTILE = '<script>alert("x")</script></p>'
SECTIONS = {
    *("checks", "data", "mask", "training", "evaluation", "answers"),
    *("forgetting", "safety", "merge", "lineage", "files"),
}


def changed(report: ReportT, **fields: Any) -> ReportT:
    """A report with other fields."""
    return report.model_copy(update=fields)


@pytest.mark.parametrize("verdict", ["promoted", "rejected"])
def test_the_page_is_whole_and_asks_nothing_of_the_network(verdict: str, request: pytest.FixtureRequest) -> None:
    evidence = request.getfixturevalue(f"{verdict}_evidence")
    page = render_run_page(evidence)
    assert parse(page).ids == SECTIONS
    assert page.count('class="curve') == 5
    headings = ["Promote" if verdict == "promoted" else "Reject", "Checks", "Data", "Loss mask", "Training"]
    headings += ["Base against tuned model", "Answers side by side", "Forgetting", "Safety", "Merge"]
    places = [page.index(f"{heading}</h") for heading in headings]
    assert places == sorted(places), "the verdict first, then the checks, then the rest"
    assert render_run_page(evidence) == page


def test_every_check_is_shown_in_words_and_shape(rejected_evidence: Evidence) -> None:
    page = render_run_page(rejected_evidence)
    gate = page[page.index('id="checks"') : page.index('id="data"')]
    stamps = re.findall(r'<li class="([\w-]+)"><b>(\w+)</b><span class="stamp">(.*?)</span>', gate)
    words = {"passed": "&#10003; passed", "failed": "&#10005; failed", "not measured": "&#8211; not measured"}
    assert stamps == [
        (check.outcome.replace(" ", "-"), check.name.capitalize(), words[check.outcome])
        for check in rejected_evidence.checks
    ]
    assert [name for outcome, name, _ in stamps if outcome == "failed"] == ["Merge"]
    assert f"{len(stamps) - 1} of {len(stamps)} checks passed" in gate


def test_the_intervals_are_drawn_with_their_thresholds(promoted_evidence: Evidence) -> None:
    page = render_run_page(promoted_evidence)
    drawn = 1 + len(promoted_evidence.comparisons) + 1
    assert page.count('class="whisker"') == drawn, "the verdict's, each comparison's and forgetting's"
    assert page.count('class="zero"') == drawn
    assert page.count('<i class="threshold"') == 4, "min_gain twice, champion_margin, max_forgetting"
    assert "36 won, 0 lost, 4 tied; p &lt; 0.0001 (McNemar&#39;s test)" in page


def test_what_models_say_cannot_break_the_page(promoted_evidence: Evidence) -> None:
    page = render_run_page(_attacked(promoted_evidence))
    parse(page)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 9


def _attacked(evidence: Evidence) -> Evidence:
    data, mask, safety = evidence.data, evidence.mask, evidence.safety
    assert data
    assert mask
    assert safety
    copied = ContaminatedRow(id="a", origin=HOSTILE, train_origin=HOSTILE, word_overlap=1.0, excerpt=HOSTILE)
    token = changed(mask.samples[0].tokens[0], text=HOSTILE)
    probe = changed(safety.probes[0], tuned=ProbeOutcome(answer=HOSTILE, refused=False, leaked=False))
    return changed(
        evidence,
        examples=[_attacked_example(evidence.examples[3]), *evidence.examples],
        mask=changed(mask, samples=[changed(mask.samples[0], tokens=[token])]),
        data=changed(
            data,
            bad_rows=[changed(data.bad_rows[0], reason=HOSTILE)],
            contamination=changed(data.contamination, contaminated=1, examples=[copied]),
        ),
        safety=changed(safety, probes=[probe]),
        checks=[changed(evidence.checks[0], detail=HOSTILE), *evidence.checks[1:]],
    )


def _attacked_example(example: PairedExample) -> PairedExample:
    assert example.champion
    return changed(
        example,
        prompt=HOSTILE,
        tuned=changed(example.tuned, answer=HOSTILE),
        champion=changed(example.champion, answer=HOSTILE),
    )


def test_the_dataset_checks_are_shown_with_their_rows(promoted_evidence: Evidence) -> None:
    data = promoted_evidence.data
    assert data
    near = NearDuplicate(origin="t.jsonl:40", other_origin="t.jsonl:212", similarity=0.93, excerpt="Write it")
    masked = [ScreeningExample(origin=f"t.jsonl:{i}", category="email", excerpt="to [EMAIL]") for i in range(30)]
    found = changed(
        data,
        near_duplicates=changed(data.near_duplicates, within_train=12, across=2, examples=[near]),
        personal_data=changed(data.personal_data, action="mask", rows=30, counts={"email": 30}, examples=masked),
        labels={"no": {"train": 100, "eval": 9}, "yes": {"train": 800, "eval": 31}},
    )
    page = render_run_page(changed(promoted_evidence, data=found))
    parse(page)
    assert re.search(
        r'<li class="attention"><b>Near-duplicates</b>.*14 rows nearly identical to another: 12 within train, 0 within '
        r"eval, 2 across train and eval; kept",
        page,
    )
    assert "<code>t.jsonl:40</code><span>93% like t.jsonl:212: Write it</span>" in page
    assert re.search(r'<li class="passed"><b>Personal data</b>.*30 rows with 30 email; masked', page)
    assert '<p class="soft">and 10 more</p>' in page, "of 30 rows, 20 are shown"
    assert re.search(r"<th>yes</th><td class=\"num\">800</td><td class=\"num\">31</td>.*<th>no</th>", page, re.S)


def test_probes_are_shown_side_by_side_the_failed_first(promoted_evidence: Evidence) -> None:
    safety, tuned = promoted_evidence.safety, promoted_evidence.tuned
    assert safety
    assert tuned
    leaked = ProbeOutcome(answer="It is swordfish.", refused=False, leaked=True)
    probes = [changed(probe, tuned=leaked) if probe.kind == "leak" else probe for probe in safety.probes]
    rates = ProbeRates(refusal_rate=1.0, leak_rate=1.0, over_refusal_rate=0.0)
    evidence = changed(promoted_evidence, safety=changed(safety, probes=probes), tuned=changed(tuned, safety=rates))
    page = render_run_page(evidence)
    shown = page[page.index('id="safety"') : page.index('id="merge"')]
    assert re.search(r"secrets leaked.*100%.*&#10005; exceeded", shown, re.S)
    assert shown.index("<span>password</span>") < shown.index("<span>door</span>")
    assert re.search(r"tuned</span><span class=\"wrong\">&#10005; leaked</span>.*It is swordfish", shown)


def test_what_tuning_broke_is_shown(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    examples = examples_of(outputs.base)
    examples[10] = changed(examples[10], answer=examples[10].reference, exact_match=1.0)
    write_evaluation(outputs.base, examples)
    run_gate(outputs, tmp_path / "evidence")
    page = render_run_page(Evidence.load(tmp_path / "evidence"))
    assert "<b>1</b>broken" in page
    assert re.search(r"Broken.*the second of May".replace(" ", ".{0,60}"), page, re.S)


def test_without_a_champion_there_is_no_column_for_it(tmp_path: Path, promoted_evidence: Evidence) -> None:
    outputs = write_outputs(tmp_path)
    remove_champion(outputs.champion)
    run_gate(outputs, tmp_path / "evidence")
    assert '<th class="num">champion</th>' in render_run_page(promoted_evidence)
    assert '<th class="num">champion</th>' not in render_run_page(Evidence.load(tmp_path / "evidence"))


def test_a_page_of_nothing_says_what_is_missing(tmp_path: Path) -> None:
    outputs = write_outputs(tmp_path)
    for step in vars(outputs).values():
        shutil.rmtree(step)
    run_gate(outputs, tmp_path / "evidence", policy=None)
    page = render_run_page(Evidence.load(tmp_path / "evidence"))
    parse(page)
    assert page.count("is missing or unreadable") >= 8
    assert "There is no training history" in page
    assert "There is no dataset report" in page


def test_plain_text_has_no_answers_to_show(promoted_evidence: Evidence) -> None:
    none = {"answer": None, "exact_match": None, "token_f1": None, "rouge_l": None}
    examples = [
        changed(one, prompt=None, reference=None, base=changed(one.base, **none), tuned=changed(one.tuned, **none))
        for one in promoted_evidence.examples
    ]
    page = render_run_page(changed(promoted_evidence, examples=[changed(one, champion=None) for one in examples]))
    parse(page)
    assert "plain text has none to compare" in page


def test_a_registered_model_is_named_with_its_addresses(promoted_evidence: Evidence) -> None:
    registration = Registration(
        model_name="dates", version="3", alias="challenger", url="s3://loraline/models/dates/c", digest="c" * 64
    )
    page = render_run_page(promoted_evidence, registration)
    assert "<code>models:/dates/3</code>, alias <code>@challenger</code>" in page
    assert "<code>s3://loraline/models/dates/c/merged</code>" in page


def test_a_merge_that_was_not_compared_is_said_so(promoted_evidence: Evidence) -> None:
    merge = promoted_evidence.merge
    assert merge
    unmeasured = changed(
        merge, max_abs_logit_difference=None, effect_kept=None, kl_divergence=None, greedy=None, prompts={}
    )
    page = render_run_page(changed(promoted_evidence, merge=unmeasured))
    parse(page)
    assert "Not measured: the merged model was not compared" in page
    assert 'class="scale' not in page
