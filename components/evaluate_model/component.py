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
    """Score a model, with an adapter on it or without, or the champion, on the held-out rows."""
    import json
    from pathlib import Path

    from loraline import tracking
    from loraline.evaluation.config import EvaluateConfig
    from loraline.safety import Policy
    from loraline.step import step

    told = json.loads(settings)
    name = "evaluate champion" if "champion" in told else "evaluate tuned" if adapter else "evaluate base"
    with step(name), tracking.child_run(name) as tracker:
        config, policy = EvaluateConfig.from_settings(settings), Policy.of(told.get("policy"))
        folders = Path(model.path), Path(dataset.path), Path(evaluation.path)
        if "champion" in told:
            from loraline.evaluation.champion import evaluate_champion

            report = evaluate_champion(config, *folders, told["champion"], policy)
        else:
            from loraline.evaluation.evaluate import evaluate

            report = evaluate(config, *folders, Path(adapter.path) if adapter else None, policy)
        figures = report.figures() if report else {}
        tracker.metrics(figures, step=0)
    for figure, value in figures.items():
        metrics.log_metric(figure, value)
    Path(metrics.path).write_text(json.dumps(figures))  # kfp.local caches only what is a file
