"""The phases on folders that the caller names, each by itself, as the command line runs them."""

import shutil
import tempfile
from pathlib import Path

from loraline.artifacts.dataset import DatasetReport
from loraline.artifacts.dataset_files import EVAL_ROWS, TRAIN_ROWS
from loraline.artifacts.evaluation import EvaluationReport
from loraline.artifacts.training import TrainReport
from loraline.errors import ConfigurationError
from loraline.evidence.lineage import Lineage, PolicyPin, SourcePin
from loraline.finetune import phases
from loraline.finetune.inputs import cached_base, policy_of
from loraline.finetune.results import EvaluationResult, ReportPage, TrainResult
from loraline.recipe import Recipe
from loraline.sources.adapter_source import base_of_adapter

BASE, TUNED = "base", "tuned"
"""The two evaluations below the folder of `evaluate_into`."""


def check_prepared(folder: Path, name: str = EVAL_ROWS) -> Path:
    """Return a folder of prepared rows, in which a file of rows must be.

    Raises:
        ConfigurationError: it is not there.
    """
    if not (folder / name).is_file():
        raise ConfigurationError(
            f"{folder} holds no prepared rows ({name} is missing); make them: "
            f"loraline prepare ROWS --model MODEL -o {folder}"
        )
    return folder


def train_into(recipe: Recipe, rows: Path, output: Path) -> TrainResult:
    """Train an adapter on prepared rows. Interrupted, it resumes when it is called again with the same arguments.

    Raises:
        ConfigurationError: the folder holds no prepared rows.
        ModelLoadingError: the base cannot be had, or does not fit.
        TrainingError: no token carries loss, or the loss is no number.
    """
    check_prepared(rows, TRAIN_ROWS)
    checkpoints = output.with_name(f".{output.name}.checkpoints")
    phases.train(recipe, cached_base(recipe), rows, output, checkpoints)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return TrainResult(output, TrainReport.load(output))


def evaluate_into(recipe: Recipe, rows: Path, output: Path, adapter: Path | None = None) -> EvaluationResult:
    """Evaluate a base into `output`/base, and an adapter that is merged into it into `output`/tuned.

    Raises:
        ConfigurationError: the folder holds no prepared rows.
        DatasetError: no row can be evaluated.
        ModelLoadingError, AdapterError: a model cannot be had, or the adapter does not fit the base.
    """
    check_prepared(rows)
    base = cached_base(recipe)
    phases.evaluate(recipe, "base", base.full, rows, output / BASE)
    base_report = EvaluationReport.load(output / BASE)
    if adapter is None:
        return EvaluationResult(base_report, None, output / BASE, None)
    with tempfile.TemporaryDirectory() as folder:
        merged = Path(folder) / "merged"
        phases.merge(recipe, base, adapter, None, merged)
        phases.evaluate(recipe, "tuned", merged, rows, output / TUNED)
    return EvaluationResult(base_report, EvaluationReport.load(output / TUNED), output / BASE, output / TUNED)


def judge_into(recipe: Recipe, rows: Path, evaluation: Path, adapter: Path, merged: Path, output: Path) -> ReportPage:
    """Judge a tuned model by what lies in the folders of the other phases.

    The lineage of the evidence is what the folders tell: they hold no recipe, and no digest of the source.

    Args:
        recipe: with the thresholds and the policy.
        rows: folder of the prepared rows.
        evaluation: folder of `evaluate_into`.
        adapter: folder of the adapter.
        merged: folder of the merged model.
        output: gets evidence.json and verdict.json.

    Raises:
        ConfigurationError: the folder holds no prepared rows.
        AdapterError: there is no adapter.
    """
    policy = policy_of(recipe)
    data = DatasetReport.load(check_prepared(rows))
    source, revision = base_of_adapter(adapter)
    tuned = evaluation / TUNED
    lineage = Lineage(
        recipe={},
        recipe_digest="",
        model_name=recipe.registry.model_name,
        general_source=data.general.source if data.general else "",
        tasks=sorted(EvaluationReport.load(tuned).tasks) if (tuned / EvaluationReport.FILE).exists() else [],
        data=SourcePin(source=data.sources[0].name, revision="", digest=data.fingerprint),
        model=SourcePin(source=source, revision=revision, digest=_base_digest(adapter)),
        policy=PolicyPin(source=recipe.safety.policy, digest=policy.digest) if policy else None,
    )
    return phases.judge(recipe, lineage, rows, (evaluation / BASE, tuned), adapter, merged, output)


def _base_digest(adapter: Path) -> str:
    return TrainReport.load(adapter).base_digest if (adapter / TrainReport.FILE).exists() else ""
