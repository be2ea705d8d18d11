"""The results of a local run: `runs/<run id>/summary.json`, for programs."""

import os
import shutil
from pathlib import Path
from typing import ClassVar

from loraline.artifacts.base import Measured, Report
from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.evaluation import EvaluationFigures, EvaluationReport
from loraline.artifacts.merging import MergeReport
from loraline.artifacts.registration import Registration
from loraline.artifacts.training import TrainReport
from loraline.artifacts.verdict import VerdictName
from loraline.evidence.schema import Evidence
from pipelines.local.run import LocalStep


class MergeSummary(Report):
    """The parity of the merged model, as in `MergeReport`."""

    effect_kept: Measured
    max_effect_change: float


class TrainingSummary(Report):
    """The training, as in `TrainReport`."""

    tokens_per_second: float
    steps: int
    final_loss: float


class VersionSummary(Report):
    """The registered model version, as in `Registration`."""

    model_name: str
    version: str
    alias: str
    url: str


class DigestSummary(Report):
    """The digests of what went into the model, and of the model."""

    recipe: str
    code: str
    data: str
    """Of the sources."""
    dataset: str
    """Fingerprint of the prepared rows."""
    base: str
    model: str | None
    """None on a reject."""


class Summary(Report):
    """The results of a run."""

    FILE: ClassVar[str] = "summary.json"

    run: str
    """Name of the run's folder."""
    verdict: VerdictName
    reasons: list[str]
    not_measured: list[str]
    """Checks that measured nothing, as in `Verdict`."""
    base: EvaluationFigures
    tuned: EvaluationFigures
    merge: MergeSummary
    training: TrainingSummary
    seconds: dict[str, float]
    """By step."""
    cached: list[str]
    """Steps whose results were in the cache."""
    model_version: VersionSummary | None
    """None on a reject."""
    digests: DigestSummary
    where: dict[str, str]
    """Paths and addresses of the results, by name."""


def write_summary(folder: Path, steps: list[LocalStep]) -> Summary:
    """Collect a run's results from its steps' outputs into `folder`/summary.json; point runs/latest at it."""
    outputs = {step.name: {name: Path(value) for name, value in step.outputs.items()} for step in steps}
    evidence = Evidence.load(outputs["gate"]["evidence"])
    lineage, registration = evidence.lineage, _registration(outputs)
    summary = Summary(
        run=folder.name,
        verdict=evidence.verdict.verdict,
        reasons=evidence.verdict.reasons,
        not_measured=evidence.verdict.not_measured,
        base=_evaluation(outputs["evaluate base"]["evaluation"]),
        tuned=_evaluation(outputs["evaluate tuned"]["evaluation"]),
        merge=MergeSummary.model_validate(MergeReport.load(outputs["merge_adapter"]["parity"]).model_dump()),
        training=TrainingSummary.model_validate(TrainReport.load(outputs["train_lora"]["adapter"]).model_dump()),
        seconds={step.name: step.seconds for step in steps},
        cached=[step.name for step in steps if step.state == "cached"],
        model_version=VersionSummary.model_validate(registration.model_dump()) if registration else None,
        digests=DigestSummary(
            recipe=lineage.recipe_digest,
            code=lineage.code_version,
            data=lineage.data.digest,
            dataset=DatasetReport.load(outputs["prepare_dataset"]["dataset"]).fingerprint,
            base=ModelManifest.load(outputs["load_model"]["base"]).digest,
            model=registration.digest if registration else None,
        ),
        where=_collect(folder, outputs),
    )
    summary.save(folder)
    _point_latest(folder)
    return summary


def _evaluation(folder: Path) -> EvaluationFigures:
    return EvaluationFigures.model_validate(EvaluationReport.load(folder).model_dump())


def _registration(outputs: dict[str, dict[str, Path]]) -> Registration | None:
    if "register_model" not in outputs:
        return None
    return Registration.load(outputs["register_model"]["registration"])


def _collect(folder: Path, outputs: dict[str, dict[str, Path]]) -> dict[str, str]:
    """Copy the page and the card into the run's folder and link the large outputs; return where everything is."""
    shutil.copyfile(outputs["report"]["page"], folder / "report.html")
    shutil.copyfile(outputs["report"]["card"], folder / "README.md")
    linked = {
        "adapter": outputs["train_lora"]["adapter"],
        "merged": outputs["merge_adapter"]["merged"],
        "dataset": outputs["prepare_dataset"]["dataset"],
        "evidence": outputs["gate"]["evidence"],
    }
    for name, target in linked.items():
        (folder / name).symlink_to(os.path.relpath(target, folder), target_is_directory=True)
    names = ("report.html", "README.md", *linked, "pipeline.log", Summary.FILE)
    return {Path(name).stem if name != "README.md" else "model_card": str(folder / name) for name in names} | {
        "tracking": os.environ["MLFLOW_TRACKING_URI"]
    }


def _point_latest(folder: Path) -> None:
    latest = folder.parent / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(folder.name, target_is_directory=True)
