"""KFP wrapper of `evaluate_model`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.GPU, install_kfp_package=False)
def evaluate_model(
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    model: dsl.Input[dsl.Model] = None,
):
    """Score a model, base or merged, or the champion, on the held-out rows."""
    import json
    from pathlib import Path

    from loraline.evaluation.run_evaluation import run_evaluation
    from loraline.settings import EvaluateSettings

    folders = Path(model.path) if model else None, Path(dataset.path), Path(evaluation.path)
    figures = run_evaluation(EvaluateSettings.parse(settings), *folders)
    for figure, value in figures.items():
        metrics.log_metric(figure, value)
    Path(metrics.path).write_text(json.dumps(figures))  # kfp.local caches only what is a file
