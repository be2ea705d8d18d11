"""Show the whole run: a page, the model card, and the final figures in MLflow."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraline import progress, tracking
from loraline.evidence.schema import Evidence
from loraline.report.evidence_view import EvidenceView
from loraline.report.formatting import LABELS
from loraline.report.lineage import flat_recipe
from loraline.report.markdown import to_markdown
from loraline.report.model_card import model_card
from loraline.report.run_page import render_run_page


@dataclass(frozen=True)
class Written:
    """The files that the report made."""

    page: Path
    """report.html."""
    card: Path
    """README.md, the model card."""
    summary: Path
    """summary.md: verdict, reasons, the table and the checks in a few lines."""


def write_report(evidence: Path, registration: Path | None, output: Path) -> Written:
    """Write the page, the model card and a short summary, log them, and end the pipeline's run in MLflow.

    Args:
        evidence: folder of the gate.
        registration: folder of register_model; None where the model was rejected.
        output: folder to write.

    Raises:
        ValidationError: there is no evidence.
    """
    bundle = Evidence.load(evidence)
    found = EvidenceView.of(bundle)
    registered = json.loads((registration / "registration.json").read_bytes()) if registration else None
    output.mkdir(parents=True, exist_ok=True)
    written = Written(output / "report.html", output / "README.md", output / "summary.md")
    written.page.write_text(render_run_page(bundle, registered), encoding="utf-8")
    written.card.write_text(model_card(bundle, registered), encoding="utf-8")
    written.summary.write_text(to_markdown(bundle), encoding="utf-8")
    _track(found, registered, written, output)
    progress.headline(f"{found.verdict.verdict}: {found.verdict.reasons[0]}")
    return written


def _track(found: EvidenceView, registered: dict[str, Any] | None, written: Written, output: Path) -> None:
    """Log to the pipeline's run what people compare runs by; what cannot be sent stays in unsent.json."""
    tracker = tracking.parent_run()
    tracker.params(dict(flat_recipe(found.lineage.get("recipe") or {})))
    tracker.metrics(_figures(found))
    tracker.tags({"verdict": found.verdict.verdict, "reasons": "\n".join(found.verdict.reasons)})
    tracker.tags({key: found.lineage[key] for key in ("recipe_digest", "code_version") if key in found.lineage})
    if registered:
        tracker.tags({"model_version": f"{registered['model_name']}/{registered['version']}"})
    for path in (written.page, written.card, written.summary):
        tracker.artifact(path)
    tracker.close("FINISHED")
    if tracker.unsent:
        (output / "unsent.json").write_text(json.dumps(tracker.unsent, indent=2) + "\n", encoding="utf-8")


def _figures(found: EvidenceView) -> dict[str, float]:
    sides = {"base": found.base or {}, "tuned": found.tuned or {}, "champion": found.champion or {}}
    figures = {
        f"{side}/{name}": values[name]
        for side, values in sides.items()
        for name in LABELS
        if values.get(name) is not None
    }
    verdict = found.verdict
    gains = {"gain": verdict.gain, "gain_lower": verdict.lower, "gain_upper": verdict.upper}
    if found.forgetting:
        gains["forgetting"] = found.forgetting.difference
    return figures | {name: value for name, value in gains.items() if value is not None}
