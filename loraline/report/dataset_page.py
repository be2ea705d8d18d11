"""The page of a prepared dataset: what was read, kept and dropped."""

from loraline.artifacts.dataset import DatasetReport
from loraline.report.dataset_checks import dataset_checks
from loraline.report.dataset_figures import dropped_rows, labels_by_frequency, length_charts, row_counts
from loraline.report.rendering import render_html


def render_dataset_page(report: DatasetReport) -> str:
    """Render a dataset's report as one HTML file, self-contained and without scripts."""
    return render_html(
        "dataset_page.html.j2",
        report=report,
        checks=dataset_checks(report),
        row_counts=row_counts(report.rows),
        dropped_rows=dropped_rows(report),
        length_charts=length_charts(report),
        labels=labels_by_frequency(report.labels or {}),
    )
