"""Write the report of a run: its page, the model card and a summary; and its figures into MLflow."""

import json
from dataclasses import dataclass
from pathlib import Path

from loraline import progress, tracking
from loraline.artifacts.evaluation import FIGURE_LABELS
from loraline.artifacts.registration import Registration
from loraline.evidence.schema import Evidence
from loraline.report.markdown import run_summary
from loraline.report.metric_table import model_figure
from loraline.report.model_card import render_model_card
from loraline.report.provenance import flat_recipe
from loraline.report.run_page import render_run_page

_UNSENT = "unsent.json"


@dataclass(frozen=True)
class ReportFiles:
    """The files of a report."""

    page: Path
    """report.html."""
    card: Path
    """README.md, the model card."""
    summary: Path
    """summary.md: verdict, reasons, metrics and checks."""


def write_report(evidence: Path, registration: Path | None, output: Path) -> ReportFiles:
    """Write the page, the model card and the summary, log them, and end the pipeline's run in MLflow.

    Args:
        evidence: folder of the gate.
        registration: folder of register_model; None where the model was rejected.
        output: folder to write.

    Raises:
        ValidationError: there is no evidence.
    """
    found = Evidence.load(evidence)
    registered = Registration.load(registration) if registration else None
    output.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(output / "report.html", output / "README.md", output / "summary.md")
    files.page.write_text(render_run_page(found, registered), encoding="utf-8")
    files.card.write_text(render_model_card(found, registered), encoding="utf-8")
    files.summary.write_text(run_summary(found), encoding="utf-8")
    _log_to_mlflow(found, registered, files, output)
    progress.headline(f"{found.verdict.verdict}: {found.verdict.reasons[0]}")
    return files


def _log_to_mlflow(found: Evidence, registered: Registration | None, files: ReportFiles, output: Path) -> None:
    """Log parameters, figures and files to the pipeline's run; what cannot be sent is kept in unsent.json."""
    tracker = tracking.parent_run()
    tracker.params(dict(flat_recipe(found.lineage.recipe)))
    tracker.metrics(_figures(found))
    tracker.tags({"verdict": found.verdict.verdict, "reasons": "\n".join(found.verdict.reasons)})
    tracker.tags({"recipe_digest": found.lineage.recipe_digest, "code_version": found.lineage.code_version})
    if registered:
        tracker.tags({"model_version": f"{registered.model_name}/{registered.version}"})
    for path in (files.page, files.card, files.summary):
        tracker.artifact(path)
    tracker.close("FINISHED")
    if tracker.unsent:
        (output / _UNSENT).write_text(json.dumps(tracker.unsent, indent=2) + "\n", encoding="utf-8")


def _figures(found: Evidence) -> dict[str, float]:
    verdict = found.verdict
    figures = {
        f"{model}/{name}": model_figure(found, model, name)
        for model in ("base", "tuned", "champion")
        for name in FIGURE_LABELS
    }
    figures |= {"gain": verdict.gain, "gain_lower": verdict.lower, "gain_upper": verdict.upper}
    figures["forgetting"] = found.forgetting.difference if found.forgetting else None
    return {name: value for name, value in figures.items() if value is not None}
