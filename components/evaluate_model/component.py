"""KFP wrapper of `evaluate_model`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.GPU, install_kfp_package=False)
def evaluate_model(
    settings: str,
    model: dsl.Input[dsl.Model],
    dataset: dsl.Input[dsl.Dataset],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    adapter: dsl.Input[dsl.Model] = None,
):
    """Score a model, with an adapter on it or without, on the held-out rows."""
    from pathlib import Path

    from components.evaluate_model.config import EvaluateConfig
    from components.evaluate_model.evaluate import evaluate
    from components.shared import progress, tracking

    name = "evaluate tuned" if adapter else "evaluate base"
    with progress.step(name), tracking.child_run(name) as tracker:
        report = evaluate(
            EvaluateConfig.from_settings(settings),
            Path(model.path),
            Path(dataset.path),
            Path(evaluation.path),
            adapter=Path(adapter.path) if adapter else None,
        )
        tracker.metrics(report.figures(), step=0)
    for figure, value in report.figures().items():
        metrics.log_metric(figure, value)
    Path(metrics.path).write_text(report.model_dump_json())  # kfp.local caches only what is a file
