"""Score the champion on the run's own rows: what a new model has to hold its own against."""

import tempfile
from pathlib import Path

from loraline import progress
from loraline.artifacts.evaluation import ChampionPin, ChampionReport, EvaluationReport, MetricName
from loraline.artifacts.verdict import Verdict
from loraline.errors import ValidationError
from loraline.evaluation.config import EvaluateConfig
from loraline.models.config import ModelConfig
from loraline.safety.policy import Policy


def evaluate_champion(
    config: EvaluateConfig,
    held: ModelConfig,
    dataset: Path,
    output: Path,
    champion: ChampionPin | None,
    policy: Policy | None = None,
) -> EvaluationReport | None:
    """Score the champion's merged model, which is what was registered, as `evaluate` scores the run's own.

    Every file is fetched anew and must have the digest that it was registered with. Without a champion, champion.json
    says so, and nothing is computed.

    Args:
        config: how much is scored, and which tasks are run.
        held: how it is held in memory: as the models of the run, and with no more trust in its code than the recipe's.
        dataset: folder with eval.parquet.
        output: folder to write, as `evaluate` writes it; but the figures are in champion.json (`ChampionReport`).
        champion: the champion and where its files are; None where there is none.
        policy: its probes are put to the champion.

    Raises:
        ValidationError: a file of the champion is gone or altered.
        StorageError: the object store does not answer.
    """
    output.mkdir(parents=True, exist_ok=True)
    if champion is None:
        ChampionReport(champion=None, evaluation=None).save(output)
        progress.headline("no champion yet")
        return None
    # A run without a champion, as every model's first is, is spared the seconds that this takes to import.
    from loraline.evaluation.evaluate import evaluate

    with tempfile.TemporaryDirectory() as folder:
        _fetch(champion, Path(folder))
        spent = _margin_spent(Path(folder) / "evidence")
        found = evaluate(config, Path(folder) / "merged", dataset, output, policy, held)
    ChampionReport(champion=champion, evaluation=found, margin_spent=spent).save(output)
    (output / EvaluationReport.FILE).unlink()  # champion.json holds the same figures
    return found


def _fetch(champion: ChampionPin, folder: Path) -> None:
    """Download the evidence and the merged model of the champion, and verify them."""
    from loraline.registry.files import EVIDENCE_PATH, VERDICT_PATH, fetch_part

    progress.note(f"fetching version {champion.version} of {champion.model_name}, the champion")
    try:
        listed = fetch_part(
            champion.url,
            champion.content_digest,
            "merged",
            folder,
            also=(EVIDENCE_PATH, VERDICT_PATH),
            advance=lambda done, total: progress.advance(done, total, "files of the champion"),
        )
    except ValidationError as error:
        raise _refused(champion, str(error)) from error
    if EVIDENCE_PATH not in listed.files:
        raise _refused(champion, f"{EVIDENCE_PATH} was not registered")


def _margin_spent(evidence: Path) -> dict[MetricName, float]:
    """By how much the champion is worse than the best before it, as its verdict says."""
    if not (evidence / Verdict.FILE).exists():
        return {}
    try:
        verdict = Verdict.load(evidence)
    except ValidationError as error:
        progress.note(f"the champion's verdict is of another release, and counts as that of the best so far: {error}")
        return {}
    return {verdict.metric: verdict.margin_spent}


def _refused(champion: ChampionPin, reason: str) -> ValidationError:
    name = champion.model_name
    return ValidationError(
        f"the champion, version {champion.version} of {name} at {champion.url}, cannot be compared with: "
        f"{reason}. Make another version the champion (loraline rollback {name}, or loraline promote {name} "
        "--version N), or bring the files back"
    )
