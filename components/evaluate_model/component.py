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

    from components.evaluate_model.config import EvaluateConfig
    from components.shared import progress, tracking
    from components.shared.policy import Policy

    told = json.loads(settings)
    name = "evaluate champion" if "champion" in told else "evaluate tuned" if adapter else "evaluate base"
    with progress.step(name), tracking.child_run(name) as tracker:
        config, policy = EvaluateConfig.from_settings(settings), Policy.of(told.get("policy"))
        folders = Path(model.path), Path(dataset.path), Path(evaluation.path)
        if "champion" in told:
            from components.evaluate_model.champion import evaluate_champion

            report = evaluate_champion(config, *folders, told["champion"], policy)
        else:
            from components.evaluate_model.evaluate import evaluate

            report = evaluate(config, *folders, Path(adapter.path) if adapter else None, policy)
        figures = report.figures() if report else {}
        tracker.metrics(figures, step=0)
    for figure, value in figures.items():
        metrics.log_metric(figure, value)
    Path(metrics.path).write_text(json.dumps(figures))  # kfp.local caches only what is a file
