"""What was done to the data, as a page: one file that asks nothing of the network."""

import itertools
from typing import Any

from loraline.artifacts.dataset import DatasetReport, LengthReport
from loraline.report.dataset_notes import notes
from loraline.report.templates import templates


def render_dataset_page(report: DatasetReport) -> str:
    """Render a dataset's report as HTML."""
    environment = templates(__package__)
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.globals["bins"] = _bins
    environment.globals["notes"] = notes
    return environment.get_template("dataset_page.html.j2").render(report=report)


def _bins(lengths: LengthReport, part: Any) -> list[dict[str, Any]]:
    """The bars of a histogram: the label of each bin, rows of train and eval, and train's bar in percent."""
    edges, train, held_out = lengths.edges[part], lengths.train[part], lengths.eval[part]
    most = max(max(train.histogram) / train.rows, max(held_out.histogram) / held_out.rows)
    labels = [f"{low} to {high - 1}" if high - low > 1 else str(low) for low, high in itertools.pairwise(edges)]
    return [
        {
            "label": label,
            "train": in_train,
            "eval": in_eval,
            "train_percent": round(100 * in_train / train.rows / most, 1),
            "eval_percent": round(100 * in_eval / held_out.rows / most, 1),
        }
        for label, in_train, in_eval in zip(
            [*labels, f"{edges[-1]} +"], train.histogram, held_out.histogram, strict=True
        )
    ]
