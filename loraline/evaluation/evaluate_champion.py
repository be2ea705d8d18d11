"""Score the champion on the run's own rows: what a new model has to hold its own against."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from loraline import progress
from loraline.artifacts.evaluation import ChampionPin, ChampionReport, EvaluationReport, ScoredChampion
from loraline.errors import ValidationError
from loraline.evaluation.config import EvaluateConfig
from loraline.safety.policy import Policy

if TYPE_CHECKING:
    from loraline.registry.files import Part


def evaluate_champion(
    config: EvaluateConfig,
    model: Path,
    dataset: Path,
    output: Path,
    champion: ChampionPin | None,
    policy: Policy | None = None,
) -> EvaluationReport | None:
    """Score the champion as `evaluate` scores a model.

    A champion that was trained on the run's own base is its adapter on `model`, so that both are held in memory in
    the same form; another is its merged model. Every file is fetched anew and must have the digest that it was
    registered with. Without a champion, champion.json says so, and nothing is computed.

    Args:
        config: how much is scored, and which tasks are run.
        model: the run's own model folder.
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
    # A run without a champion, as every model's first is, is spared the seconds that these take to import.
    from loraline.evaluation.evaluate import evaluate
    from loraline.models.folder import read_manifest

    is_own_base = bool(champion.base_digest) and champion.base_digest == read_manifest(model).digest
    part: Part = "adapter" if is_own_base else "merged"
    with tempfile.TemporaryDirectory() as folder:
        fetched = Path(folder)
        _fetch(champion, part, fetched)
        if is_own_base:
            found = evaluate(config, model, dataset, output, fetched / "adapter", policy)
        else:
            progress.note("the champion was trained on another base: its merged model is scored, in 16 bit")
            _run_as(model, fetched / "merged")
            found = evaluate(config, fetched / "merged", dataset, output, policy=policy)
    named = champion.model_dump(exclude={"base_digest"})
    ChampionReport(champion=ScoredChampion(**named, scored=part), evaluation=found).save(output)
    (output / EvaluationReport.FILE).unlink()  # champion.json holds the same figures
    return found


def _fetch(champion: ChampionPin, part: "Part", folder: Path) -> None:
    """Download the evidence and one part of the champion, and verify them."""
    from loraline.registry.files import EVIDENCE_PATH, fetch_part

    progress.note(f"fetching {part} of version {champion.version} of {champion.model_name}, the champion")
    try:
        listed = fetch_part(
            champion.url,
            champion.content_digest,
            part,
            folder,
            also=(EVIDENCE_PATH,),
            advance=lambda done, total: progress.advance(done, total, "files of the champion"),
        )
    except ValidationError as error:
        raise _refused(champion, str(error)) from error
    if EVIDENCE_PATH not in listed.files:
        raise _refused(champion, f"{EVIDENCE_PATH} was not registered")


def _refused(champion: ChampionPin, reason: str) -> ValidationError:
    name = champion.model_name
    return ValidationError(
        f"the champion, version {champion.version} of {name} at {champion.url}, cannot be compared with: "
        f"{reason}. Make another version the champion (loraline rollback {name}, or loraline promote {name} "
        "--version N), or bring the files back"
    )


def _run_as(model: Path, merged: Path) -> None:
    """Have a merged champion run in the type and on the device that the recipe asks for, and with no more trust."""
    from loraline.models.folder import read_manifest, write_manifest

    own, theirs = read_manifest(model), read_manifest(merged)
    asked = {name: getattr(own, name) for name in ("compute_dtype", "device", "attention")}
    trust = own.trust_remote_code and theirs.trust_remote_code
    write_manifest(merged, theirs.model_copy(update={**asked, "trust_remote_code": trust}))
