"""The page of a run: the verdict, and the evidence that it rests on."""

from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.registration import Registration
from loraline.artifacts.training import TrainReport
from loraline.evidence.schema import Evidence
from loraline.report import intervals
from loraline.report.answers import answer_groups, spans
from loraline.report.dataset_checks import dataset_checks
from loraline.report.dataset_figures import dropped_rows, labels_by_frequency, length_charts, row_counts
from loraline.report.merge_figures import merge_facts, merge_scale
from loraline.report.metric_table import details_of_unmeasured, metric_rows, task_rows
from loraline.report.provenance import effort, flat_recipe, provenance, run_tags
from loraline.report.rendering import render_html
from loraline.report.safety_figures import probes_shown, safety_rates
from loraline.report.training_figures import training_curves, training_facts


def render_run_page(evidence: Evidence, registration: Registration | None = None) -> str:
    """Render the evidence as one HTML file: self-contained, without scripts, the same bytes for the same evidence.

    Args:
        evidence: of the run.
        registration: where the model was registered; None where it was not.
    """
    return render_html(
        "run_page.html.j2",
        evidence=evidence,
        verdict=evidence.verdict,
        registration=registration,
        run_tags=run_tags(registration),
        provenance=provenance(evidence),
        effort=effort(evidence),
        recipe=flat_recipe(evidence.lineage.recipe),
        not_measured=details_of_unmeasured(evidence),
        **_data(evidence.data),
        **_training(evidence.training),
        **_evaluation(evidence),
        **_regressions(evidence),
        **_merge(evidence.merge),
    )


def _data(data: DatasetReport | None) -> dict[str, object]:
    return {
        "dataset_checks": dataset_checks(data) if data else [],
        "row_counts": row_counts(data.rows) if data else [],
        "dropped_rows": dropped_rows(data) if data else [],
        "length_charts": length_charts(data) if data else [],
        "labels": labels_by_frequency(data.labels or {}) if data else [],
    }


def _training(training: TrainReport | None) -> dict[str, object]:
    return {
        "training_curves": training_curves(training.history) if training else [],
        "training_facts": training_facts(training) if training else [],
    }


def _evaluation(evidence: Evidence) -> dict[str, object]:
    return {
        "metrics": metric_rows(evidence),
        "verdict_chart": intervals.verdict_chart(evidence.verdict),
        "comparison_charts": intervals.comparison_charts(evidence),
        "answer_groups": answer_groups(evidence),
        "spans": spans,
    }


def _regressions(evidence: Evidence) -> dict[str, object]:
    return {
        "forgetting_chart": intervals.forgetting_chart(evidence.forgetting),
        "tasks": task_rows(evidence),
        "rates": safety_rates(evidence),
        "probes": probes_shown(evidence.safety),
    }


def _merge(merge: MergeReport | None) -> dict[str, object]:
    return {"parity": merge_scale(merge) if merge else None, "merge_facts": merge_facts(merge) if merge else []}
