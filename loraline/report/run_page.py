"""The evidence as one HTML page: self-contained, without scripts, and the same bytes for the same evidence."""

from typing import Any

from loraline.evidence.schema import Evidence
from loraline.report import charts, data_findings, formatting, intervals, risks
from loraline.report.evidence_view import EvidenceView
from loraline.report.lineage import effort, flat_recipe, model_name, provenance, run_tags
from loraline.report.rendering import render_html
from loraline.units import format_bytes


def render_run_page(bundle: Evidence, registration: dict[str, Any] | None = None) -> str:
    """Make the page.

    Args:
        bundle: the evidence.
        registration: registration.json, where the model was registered.
    """
    evidence = EvidenceView.of(bundle)
    return render_html(
        "run_page.html.j2",
        evidence=evidence,
        verdict=evidence.verdict,
        registration=registration,
        name=model_name(evidence),
        comparisons=formatting.comparisons(evidence),
        groups=formatting.groups(evidence),
        against_reference=formatting.against_reference,
        training=evidence.training or {},
        training_facts=_training_facts(evidence.training or {}),
        curves=_curves((evidence.training or {}).get("history") or []),
        mask=evidence.mask or {},
        **_of_data(evidence.data or {}),
        **_of_intervals(evidence),
        **_of_risks(evidence),
        provenance=provenance(evidence),
        run_tags=run_tags(registration or {}),
        effort=effort(evidence),
        recipe=flat_recipe(evidence.lineage.get("recipe") or {}),
    )


def _curves(history: list[dict[str, Any]]) -> list[charts.LineChart]:
    loss = {"loss": ("training", "solid"), "eval_loss": ("held-out", "dashed")}
    found = [
        charts.line_chart("Loss, nats per token", history, loss),
        charts.line_chart("Learning rate", history, {"learning_rate": ("learning rate", "solid")}),
        charts.line_chart("Gradient norm", history, {"grad_norm": ("before clipping", "solid")}),
        charts.line_chart("Tokens per second", history, {"tokens_per_second": ("tokens per second", "solid")}),
    ]
    return [chart for chart in found if chart]


def _training_facts(training: dict[str, Any]) -> list[tuple[str, str]]:
    """What training came to, beside the curves; what the report does not say is left out."""
    shown = {
        "final loss": ("final_loss", formatting.figure),
        "lowest held-out loss": ("best_eval_loss", formatting.figure),
        "trained parameters": ("trainable_parameters", formatting.figure),
        "all parameters": ("total_parameters", formatting.figure),
        "tokens seen": ("tokens", formatting.figure),
        "tokens with loss": ("labelled_tokens", formatting.figure),
        "padding": ("padding_fraction", formatting.percent),
        "cut at max_length": ("truncated", formatting.figure),
        "left out, without loss": ("dropped", formatting.figure),
        "largest memory": ("peak_memory_bytes", format_bytes),
        "went on from step": ("resumed_from", formatting.figure),
    }
    facts = [(name, show(training[key])) for name, (key, show) in shown.items() if training.get(key) is not None]
    packing = training.get("packing")
    if packing:
        apart, tolerance = (formatting.figure(packing.get(key)) for key in ("max_difference", "tolerance"))
        facts.append(("packed against alone, loss", f"{apart} of {tolerance}"))
    return facts


def _histograms(data: dict[str, Any]) -> list[charts.Histogram]:
    lengths = data.get("lengths") or {}
    found = [
        charts.histogram(
            f"{part.capitalize()} length, tokens",
            lengths["edges"][part],
            lengths["train"][part]["histogram"],
            lengths["eval"][part]["histogram"],
        )
        for part in lengths.get("edges", {})
    ]
    return [chart for chart in found if chart]


def _rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of the rows, each with its share of those that were read."""
    counts = data.get("rows") or {}
    names = {
        "train": ("to train", "trained on"),
        "eval": ("to eval", "held out for evaluation"),
        "bad": ("invalid", "dropped: not valid"),
        "duplicates": ("duplicates", "dropped: another row is the same"),
        "prompt_overlap": ("overlap", "dropped: the other split has their prompt"),
        "near_duplicates": ("near twins", "dropped: another row is nearly the same"),
        "personal_data": ("personal", "dropped: they hold personal data"),
        "policy": ("policy", "dropped: the safety policy says so"),
    }
    always = ("train", "eval", "bad", "duplicates", "prompt_overlap")
    read = counts.get("read") or 1
    return [
        {
            "label": label,
            "note": note,
            "count": counts[key],
            "percent": round(100 * counts[key] / read, 2),
            "is_dropped": key not in ("train", "eval"),
        }
        for key, (label, note) in names.items()
        if counts.get(key) or (key in always and key in counts)
    ]


def _of_data(data: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": data,
        "rows": _rows(data),
        "histograms": _histograms(data),
        "findings": data_findings.findings(data),
        "rejected_rows": data_findings.rejected_rows(data),
        "labels": data_findings.labels,
    }


def _of_intervals(evidence: EvidenceView) -> dict[str, Any]:
    return {
        "verdict_chart": intervals.verdict_chart(evidence),
        "comparison_charts": intervals.comparison_charts(evidence),
        "forgetting_chart": intervals.forgetting_chart(evidence.forgetting),
    }


def _of_risks(evidence: EvidenceView) -> dict[str, Any]:
    merge = evidence.merge or {}
    return {
        "tasks": risks.tasks(evidence),
        "rates": risks.rates(evidence),
        "probes": risks.probes(evidence),
        "merge": merge,
        "parity": risks.merge_scale(merge),
        "merge_facts": risks.merge_facts(merge),
    }
