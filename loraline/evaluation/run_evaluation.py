"""The step evaluate_model: which model is evaluated, and where its figures go."""

from pathlib import Path

from loraline import tracking
from loraline.settings import EvaluateSettings
from loraline.step import step


def run_evaluation(
    settings: EvaluateSettings, model: Path, dataset: Path, output: Path, adapter: Path | None
) -> dict[str, float]:
    """Evaluate the champion where the settings say so, else the model, with an adapter on it or without.

    Returns:
        The figures, which are logged to MLflow as well; empty where there is no champion yet.

    Raises:
        LoralineError: as `evaluate` and `evaluate_champion`.
    """
    name = "evaluate champion" if settings.evaluates_champion else "evaluate tuned" if adapter else "evaluate base"
    with step(name), tracking.child_run(name) as tracker:
        if settings.evaluates_champion:
            from loraline.evaluation.evaluate_champion import evaluate_champion

            report = evaluate_champion(settings.config, model, dataset, output, settings.champion, settings.policy)
            figures = report.figures() if report else {}
        else:
            from loraline.evaluation.evaluate import evaluate  # seconds to import, of no use where there is no champion

            figures = evaluate(settings.config, model, dataset, output, adapter, settings.policy).figures()
        tracker.metrics(figures, step=0)
    return figures
