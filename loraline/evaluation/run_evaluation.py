"""The step evaluate_model: which model is evaluated, and where its figures go."""

from pathlib import Path

from loraline import tracking
from loraline.settings import EvaluateSettings
from loraline.step import step


def run_evaluation(settings: EvaluateSettings, model: Path | None, dataset: Path, output: Path) -> dict[str, float]:
    """Evaluate the champion where the settings say so, else the model: the base, or the merged model.

    Args:
        settings: whose `subject` says which.
        model: a model folder; None for the champion, which is fetched from the store.
        dataset: folder with eval.parquet.
        output: folder to write.

    Returns:
        The figures, which are logged to MLflow as well; empty where there is no champion yet.

    Raises:
        LoralineError: as `evaluate` and `evaluate_champion`.
    """
    name = f"evaluate {settings.subject}"
    with step(name), tracking.child_run(name) as tracker:
        if settings.subject == "champion":
            from loraline.evaluation.evaluate_champion import evaluate_champion

            asked = settings.config, settings.model, dataset, output, settings.champion, settings.policy
            report = evaluate_champion(*asked)
            figures = report.figures() if report else {}
        else:
            from loraline.evaluation.evaluate import evaluate  # seconds to import, of no use where there is no champion

            assert model is not None
            figures = evaluate(settings.config, model, dataset, output, settings.policy, settings.model).figures()
        tracker.metrics(figures, step=0)
    return figures
