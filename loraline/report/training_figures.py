"""How training went: curves by optimizer step, and the totals."""

import json
from collections.abc import Sequence

from loraline.artifacts.training import StepMetrics, TrainReport
from loraline.report.charts import LineChart, Series, line_chart
from loraline.report.formatting import figure, percent
from loraline.units import format_bytes


def training_curves(history: Sequence[StepMetrics]) -> list[LineChart]:
    """Charts of the loss, the learning rate, the gradient's norm and the throughput."""
    charts = [
        line_chart(
            "Loss, nats per token",
            [
                Series("training", "solid", [(one.step, one.loss) for one in history]),
                Series("held-out", "dashed", [(one.step, one.eval_loss) for one in history]),
            ],
        ),
        line_chart("Learning rate", [Series("rate", "solid", [(one.step, one.learning_rate) for one in history])]),
        line_chart(
            "Gradient norm before clipping", [Series("norm", "solid", [(one.step, one.grad_norm) for one in history])]
        ),
        line_chart(
            "Tokens per second", [Series("speed", "solid", [(one.step, one.tokens_per_second) for one in history])]
        ),
    ]
    return [chart for chart in charts if chart]


def training_facts(training: TrainReport) -> list[tuple[str, str]]:
    """The totals, by name."""
    facts = [
        ("final loss", figure(training.final_loss)),
        ("lowest held-out loss", figure(training.best_eval_loss)),
        ("trainable parameters", figure(training.trainable_parameters)),
        ("layers with an adapter", training.adapted),
        ("all parameters", figure(training.total_parameters)),
        ("tokens seen", figure(training.tokens)),
        ("tokens with loss", figure(training.labelled_tokens)),
        ("padding", percent(training.padding_fraction)),
        ("truncated rows", figure(training.truncated)),
        ("rows without loss, dropped", figure(training.dropped)),
        ("peak memory", format_bytes(training.peak_memory_bytes)),
    ]
    if training.silent_rows:
        facts.append(("rows of which the chat template leaves answers without loss", figure(training.silent_rows)))
    if training.joined_rows:
        facts.append(("rows tokenized in two pieces", figure(training.joined_rows)))
    if training.chat_template_kwargs:
        facts.append(("chat template's variables", json.dumps(training.chat_template_kwargs)))
    if training.packing:
        difference = f"{figure(training.packing.max_difference)}, tolerance {figure(training.packing.tolerance)}"
        facts.append(("packed against unpacked loss", difference))
    if training.resumed_from is not None:
        facts.append(("resumed from step", figure(training.resumed_from)))
    return facts
